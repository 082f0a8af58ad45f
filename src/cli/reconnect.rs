//! Keeps a command connected: tries again with a growing delay, until the node says that this does not help.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rand::RngExt;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use super::destination::{Destination, Failure};
use super::socket::{Ending, Heard, Socket, Verdict};
use super::{reader, say};

/// What a command does with its connection.
pub(super) trait Role {
    /// What it asks for when it is connected, in order.
    fn requests(&self) -> Vec<Value>;

    /// It is connected, for the first time or again.
    fn begin(&mut self);

    /// Hears a message. `text` is the message as it came.
    fn hear(&mut self, message: &Value, text: &str) -> Step;

    /// Whether all that it asked for is answered.
    fn is_settled(&self) -> bool;
}

/// What comes after a message.
#[derive(Debug)]
pub(super) enum Step {
    /// The command goes on.
    On,
    /// The command goes on, and this is a line for whoever reads it.
    Print(String),
    /// The node cannot do it now: another try may help.
    Again(String),
    /// It is over.
    Over(anyhow::Result<()>),
}

/// Why a connection is not there any more.
enum Parted {
    Stopped,
    Over(anyhow::Result<()>),
    Lost(String, Option<Duration>),
}

/// Longest delay between two tries.
pub(super) const DELAY_MAX: Duration = Duration::from_secs(30);

/// The longest first delay.
const DELAY_FIRST: Duration = Duration::from_secs(1);

/// How long the answers to [`Role::requests`] may take.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// Stays connected in this role until `stop`, and then says goodbye. Says on stderr when the connection is lost.
///
/// # Errors
/// The first connection cannot be made, the node refuses, or it says that the client must not come back.
pub(super) async fn stay(
    destination: &Destination,
    role: &mut impl Role,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut stop = pin!(stop);
    let (mut was_connected, mut n_failures) = (false, 0);
    loop {
        let connected = tokio::select! {
            connected = destination.connect() => connected,
            () = &mut stop => return Ok(()),
        };
        let parted = match connected {
            Ok(socket) => {
                if was_connected {
                    say("connected again");
                }
                was_connected = true;
                let parted = talk(socket, role, &mut stop).await;
                if role.is_settled() {
                    n_failures = 0;
                }
                parted
            }
            Err(Failure::Refused(error)) => return Err(error),
            Err(Failure::Unreachable(error)) if !was_connected => {
                return Err(error).with_context(|| format!("cannot connect to {}", destination.url()));
            }
            Err(Failure::Unreachable(error)) => Parted::Lost(format!("{error:#}"), None),
            Err(Failure::Later(why, least)) => Parted::Lost(why, least.map(|least| least + full_jitter(n_failures))),
        };
        let (why, delay) = match parted {
            Parted::Stopped => return Ok(()),
            Parted::Over(result) => return result,
            Parted::Lost(why, wish) => (why, delay(wish, n_failures)),
        };
        n_failures += 1;
        say(format_args!("not connected ({why}): trying again in {:.1} s", delay.as_secs_f64()));
        tokio::select! {
            () = sleep(delay) => {}
            () = &mut stop => return Ok(()),
        }
    }
}

/// Asks, and hears until the connection ends.
async fn talk(mut socket: Socket, role: &mut impl Role, stop: &mut (impl Future<Output = ()> + Unpin)) -> Parted {
    role.begin();
    let asked = tokio::select! {
        asked = ask(&mut socket, role.requests()) => asked,
        () = &mut *stop => {
            socket.close().await;
            return Parted::Stopped;
        }
    };
    if let Err(error) = asked {
        return Parted::Lost(Ending::broken(&error.to_string()).words(), None);
    }
    let settled_by = Instant::now() + SETTLED_WITHIN;
    loop {
        let heard = tokio::select! {
            heard = socket.next() => heard,
            () = sleep_until(settled_by), if !role.is_settled() => {
                return Parted::Lost("the node does not answer".to_owned(), None);
            }
            () = &mut *stop => {
                socket.close().await;
                return Parted::Stopped;
            }
        };
        match heard {
            Heard::Message(message, text) => match role.hear(&message, &text) {
                Step::On => {}
                Step::Print(line) => {
                    let printed = tokio::select! {
                        printed = reader::print(line) => printed,
                        () = &mut *stop => {
                            socket.close().await;
                            return Parted::Stopped;
                        }
                    };
                    if !matches!(printed, Ok(true)) {
                        socket.close().await;
                        return Parted::Over(printed.map(|_| ()).map_err(Into::into));
                    }
                }
                // This is no goodbye: the user stays for the grace.
                Step::Again(why) => return Parted::Lost(why, None),
                Step::Over(result) => {
                    socket.close().await;
                    return Parted::Over(result);
                }
            },
            Heard::End(ending) => {
                return match ending.verdict() {
                    Verdict::Again(delay) => Parted::Lost(ending.words(), delay),
                    Verdict::Never => Parted::Over(Err(anyhow!("{}; the client must not come back", ending.words()))),
                };
            }
        }
    }
}

/// Sends these requests.
///
/// # Cancel safety
/// What was begun goes out before the close frame.
async fn ask(socket: &mut Socket, requests: Vec<Value>) -> anyhow::Result<()> {
    for request in requests {
        socket.send(&request).await?;
    }
    Ok(())
}

/// How long to wait, if the node wishes this. Only the first try may be at once: a node that sends everybody back at once may do so
/// again.
fn delay(wish: Option<Duration>, n_failures: u32) -> Duration {
    wish.filter(|wish| n_failures == 0 || !wish.is_zero()).unwrap_or_else(|| full_jitter(n_failures))
}

/// Full jitter: anything up to 1 s, 2 s, 4 s and so on. Many clients of a lost node do not come back together.
fn full_jitter(n_failures: u32) -> Duration {
    let ceiling = DELAY_FIRST.saturating_mul(1 << n_failures.min(16)).min(DELAY_MAX);
    ceiling.mul_f64(rand::rng().random_range(0.0..=1.0))
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use serde_json::json;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol;

    use super::super::way::AsyncConversation;
    use super::*;

    /// Asks for more than a connection takes.
    struct Talkative;

    impl Role for Talkative {
        fn requests(&self) -> Vec<Value> {
            vec![json!("x".repeat(1000))]
        }

        fn begin(&mut self) {}

        fn hear(&mut self, _: &Value, _: &str) -> Step {
            Step::On
        }

        fn is_settled(&self) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn a_stop_is_heard_while_the_node_takes_nothing() {
        let (stream, _node) = tokio::io::duplex(100);
        let stream: Box<dyn AsyncConversation> = Box::new(stream);
        let socket = Socket::new(WebSocketStream::from_raw_socket(stream, protocol::Role::Client, None).await);
        assert!(matches!(talk(socket, &mut Talkative, &mut ready(())).await, Parted::Stopped));
    }

    #[test]
    fn a_node_that_always_says_at_once_is_not_asked_without_a_pause() {
        assert_eq!(delay(Some(Duration::ZERO), 0), Duration::ZERO);
        assert!((0..100).any(|_| delay(Some(Duration::ZERO), 1) > Duration::ZERO));
        assert_eq!(delay(Some(DELAY_MAX), 3), DELAY_MAX);
    }
}
