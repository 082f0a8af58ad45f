//! The keys that an issuer shows at a URL (JWKS, RFC 7517): fetched, kept, and fetched again.
//!
//! One task fetches. Clients whose token names an unknown key ask the task, and wait for it. So many clients are one request,
//! and forged names of keys cost the issuer one request in each `auth.jwks_min_interval_ms`.
//!
//! A failure changes nothing: the keys stay for as long as the issuer is away. A key that is missing in a good answer is gone at
//! once. The URL comes from the settings alone. No token says where keys are.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::fetch::Fetcher;
use super::keys::{KeySet, Rules};
use crate::backoff::{Backoff, Reminder};
use crate::clock;
use crate::metrics::AuthMetrics;
use crate::settings::AuthSettings;

/// The keys, for those who check tokens.
pub(super) struct KeyCache {
    known: watch::Receiver<Known>,
    wanted: mpsc::Sender<()>,
    /// How long a client waits for a fetch.
    patience: Duration,
}

/// What is known of the keys.
#[derive(Clone)]
struct Known {
    keys: Option<Arc<KeySet>>,
    /// How many fetches have ended.
    n_fetches: u64,
    is_fetching: bool,
    has_failed: bool,
    /// When somebody may ask for the next fetch.
    next_at: Instant,
}

/// The task that fetches.
pub(crate) struct KeyTask {
    fetcher: Arc<Fetcher>,
    rules: Arc<Rules>,
    known: watch::Sender<Known>,
    wanted: mpsc::Receiver<()>,
    /// The thread of the last fetch. Only one may run.
    thread: Option<JoinHandle<()>>,
    refresh: Duration,
    min_interval: Duration,
    /// A fetch that has not ended by then is given up.
    deadline: Duration,
    metrics: Arc<AuthMetrics>,
}

/// The fetch ends by its own deadline. So much later, it hangs where it cannot be ended.
const SLACK: Duration = Duration::from_secs(1);

/// A client that cannot be served waits for so long at least.
const RETRY_MIN: Duration = Duration::from_millis(100);

impl KeyCache {
    /// No keys yet, and the task that fetches them.
    ///
    /// # Errors
    /// The root certificates cannot be read.
    pub(super) fn new(
        url: &str,
        settings: &AuthSettings,
        rules: Rules,
        metrics: Arc<AuthMetrics>,
    ) -> anyhow::Result<(Self, KeyTask)> {
        let fetcher = Fetcher::new(url, settings.jwks_ca_path.as_deref(), settings.jwks_timeout)?;
        let nothing = Known { keys: None, n_fetches: 0, is_fetching: true, has_failed: false, next_at: Instant::now() };
        let (sender, known) = watch::channel(nothing);
        let (wanted, receiver) = mpsc::channel(1);
        let task = KeyTask {
            fetcher: Arc::new(fetcher),
            rules: Arc::new(rules),
            known: sender,
            wanted: receiver,
            thread: None,
            refresh: settings.jwks_refresh,
            min_interval: settings.jwks_min_interval,
            deadline: settings.jwks_timeout + SLACK,
            metrics,
        };
        Ok((Self { known, wanted, patience: settings.jwks_timeout }, task))
    }

    /// Whether the keys have been fetched once.
    pub(super) fn is_loaded(&self) -> bool {
        self.known.borrow().keys.is_some()
    }

    /// The keys. If the key of this name is not among them, they are fetched anew, unless that was done a moment ago.
    ///
    /// # Errors
    /// Nobody knows whether the issuer has the key. After this time another try may help.
    ///
    /// # Cancel safety
    /// Nothing is lost. The fetch goes on.
    pub(super) async fn find(&self, kid: Option<&str>) -> Result<Arc<KeySet>, Duration> {
        let before = self.known.borrow().clone();
        if let Some(keys) = before.keys.as_ref().filter(|keys| !keys.candidates(kid).is_empty()) {
            return Ok(keys.clone());
        }
        if before.is_fetching || before.next_at <= Instant::now() {
            // If the queue is full, somebody else has asked.
            let _ = self.wanted.try_send(());
            let mut known = self.known.clone();
            let has_ended = known.wait_for(|now| now.n_fetches > before.n_fetches);
            let _ = tokio::time::timeout(self.patience, has_ended).await;
        }
        let now = self.known.borrow().clone();
        let retry_after = now.next_at.saturating_duration_since(Instant::now()).max(RETRY_MIN);
        let keys = now.keys.ok_or(retry_after)?;
        // If the last answer is a good one, the issuer has no such key.
        let is_certain = !now.has_failed && !now.is_fetching;
        if is_certain || !keys.candidates(kid).is_empty() { Ok(keys) } else { Err(retry_after) }
    }
}

impl KeyTask {
    /// Fetches the keys at once, then from time to time, and when a client needs them. Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        // A try costs little. So a node that waits for its first keys is not long behind the issuer.
        let mut backoff = Backoff::new(self.min_interval);
        let mut reminder = Reminder::default();
        loop {
            let begun_at = Instant::now();
            let next_at = begun_at + self.min_interval;
            self.known.send_modify(|known| (known.is_fetching, known.next_at) = (true, next_at));
            let fetched = tokio::select! {
                fetched = self.fetch() => fetched,
                () = stop.cancelled() => return,
            };
            let pause = match self.take(fetched, &mut backoff, &mut reminder) {
                true => time_to_refresh(self.refresh, self.min_interval).saturating_sub(begun_at.elapsed()),
                false => backoff.next(),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = wanted_after(&mut self.wanted, next_at) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Fetches the keys once. A thread does it: the client of the fetch blocks, and the runtime would wait for a blocking task
    /// when the node ends.
    async fn fetch(&mut self) -> Result<KeySet, String> {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Err("the fetch before this one still hangs".to_owned());
        }
        let (fetcher, rules) = (self.fetcher.clone(), self.rules.clone());
        let (answer, answered) = oneshot::channel();
        let thread = std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            let keys = fetcher.fetch().and_then(|text| {
                KeySet::from_jwks(&text, &rules).map_err(|what| format!("what the issuer shows {what}"))
            });
            let _ = answer.send(keys);
        });
        self.thread = Some(thread.map_err(|error| error.to_string())?);
        match tokio::time::timeout(self.deadline, answered).await {
            Ok(Ok(keys)) => keys,
            Ok(Err(_)) => Err("the fetch failed".to_owned()),
            Err(_) => Err("the fetch hangs".to_owned()),
        }
    }

    /// Takes the outcome of a fetch. Returns whether it was good.
    fn take(&mut self, fetched: Result<KeySet, String>, backoff: &mut Backoff, reminder: &mut Reminder) -> bool {
        // Those who asked meanwhile are answered by this.
        while self.wanted.try_recv().is_ok() {}
        match fetched {
            Ok(keys) => {
                if !backoff.is_first() {
                    info!("The issuer shows its keys again");
                }
                backoff.reset();
                reminder.reset();
                self.metrics.keys_fetched(clock::now());
                self.known.send_modify(|known| {
                    known.keys = Some(Arc::new(keys));
                    (known.is_fetching, known.has_failed) = (false, false);
                    known.n_fetches += 1;
                });
                true
            }
            Err(error) => {
                debug!(error = %error, "Could not fetch the keys of the issuer");
                if backoff.is_first() {
                    warn!(error = %error, "This node could not fetch the keys of the issuer, and tries again");
                }
                if let Some(seconds) = reminder.failed() {
                    warn!(error = %error, "For {seconds} s this node could not fetch the keys of the issuer");
                }
                self.metrics.key_fetch_failed();
                self.known.send_modify(|known| {
                    (known.is_fetching, known.has_failed) = (false, true);
                    known.n_fetches += 1;
                });
                false
            }
        }
    }
}

/// The time from one fetch to the next, if no client needs one. By chance, it is up to a quarter shorter than the setting, so
/// that nodes that were started together do not ask together.
fn time_to_refresh(refresh: Duration, min_interval: Duration) -> Duration {
    refresh.mul_f64(rand::rng().random_range(0.75..=1.0)).max(min_interval)
}

/// Waits until a client asks at a time when it may.
///
/// # Cancel safety
/// A client that asked too early has been answered, so its mark may be lost.
async fn wanted_after(wanted: &mut mpsc::Receiver<()>, next_at: Instant) {
    loop {
        match wanted.recv().await {
            Some(()) if next_at <= Instant::now() => return,
            Some(()) => {}
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_at_least_as_often_as_the_setting_says() {
        let [least, three_quarters, refresh] = [2, 3, 4].map(Duration::from_secs);
        for _ in 0..1000 {
            assert!((three_quarters..=refresh).contains(&time_to_refresh(refresh, least)));
            assert_eq!(time_to_refresh(refresh, refresh), refresh, "never sooner than the least interval");
        }
    }
}
