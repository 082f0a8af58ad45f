//! What lies between a session and the HTTP requests of a client that polls: a bounded pipe in memory.
//!
//! WebSocket frames go through it in both directions. The session writes and reads it as it does a connection
//! ([`super::PollingStream`]). A GET takes whole frames out, and a POST puts frames in. They may be on other threads than the
//! session, and each has a deadline.
//!
//! In the end a WebSocket may take the place of the requests ([`Probe`]). What a GET has taken out was sent before, and what a
//! POST has put in was read before. The rest waits in the pipe, and goes first.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{io, mem};

use tokio::time::timeout;

use super::http_stream::Detached;

/// The pipe of one socket.
pub(crate) struct Pipe {
    state: Mutex<State>,
    /// How much waits for the next GET (`socketio.poll_queue_bytes`). One frame may be longer.
    max_bytes: usize,
}

#[derive(Default)]
struct State {
    /// What the server says: frames, the last of which may be a part.
    out: Vec<u8>,
    /// How many bytes of them are whole frames.
    n_whole: usize,
    /// What the client says: whole frames.
    incoming: Vec<u8>,
    is_polled: bool,
    is_given: bool,
    /// Whether the client has said what it may not say. It says nothing more then.
    is_refused: bool,
    /// Whether the client has said that it is done.
    says_close: bool,
    upgrade: Upgrade,
    end: Option<PipeEnd>,
    /// The session, which waits for something to read.
    reader: Option<Waker>,
    /// The session, which waits until there is room.
    writer: Option<Waker>,
    /// The GET that waits.
    poller: Option<Waker>,
    /// The POST that waits.
    giver: Option<Waker>,
    /// The WebSocket that may take over.
    prober: Option<Waker>,
}

/// How far a WebSocket has come that takes over.
#[derive(Default)]
enum Upgrade {
    /// There is none.
    #[default]
    No,
    /// It is there.
    Opened,
    /// It has asked. So the client waits for the end of its requests.
    Probing,
    /// The session can take it.
    Ready(Box<(Detached, Vec<u8>)>),
    /// The session has it.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PipeEnd {
    /// The client has fetched the server's close frame.
    Fetched,
    /// The client has broken off, or has broken the rules.
    Broken,
    /// The session is gone.
    Gone,
}

/// Why a request of a client that polls is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PollRefused {
    /// Another one is under way. That ends the session.
    Overlap,
    /// The session has ended, or does not read.
    Gone,
    /// A WebSocket has taken over.
    Upgraded,
}

/// A POST that is being read. If it is dropped before its end, the client has broken off, and the session ends.
pub(crate) struct Giving {
    pipe: Arc<Pipe>,
    is_done: bool,
}

/// A WebSocket that may take over. If it is dropped before it has, the client goes on polling.
pub(crate) struct Probe {
    pipe: Arc<Pipe>,
    is_done: bool,
}

/// A GET that waits. If it is dropped before its end, the client has broken off, and the session ends.
struct Polling<'a> {
    pipe: &'a Pipe,
    is_done: bool,
}

/// What the session finds when it reads.
pub(super) enum Came {
    /// These frames.
    Frames(Vec<u8>),
    /// Nothing more comes.
    End,
    /// A WebSocket takes over.
    Upgrade,
}

/// What the session gets when a WebSocket takes over.
pub(super) struct TakenOver {
    /// The connection.
    pub(super) connection: Detached,
    /// What the client has said until now, and was not read.
    pub(super) unread: Vec<u8>,
    /// What the server has said until now, and was not fetched.
    pub(super) unsent: Vec<u8>,
}

/// A GET that comes while a WebSocket takes over is answered after this time, if there is nothing else to say. Source: the
/// interval of engine.io 6.6, `_maybeUpgrade`
const PROBING_DEADLINE: Duration = Duration::from_millis(100);

/// Packets of Engine.IO: nothing, and the end. Source: <https://socket.io/docs/v4/engine-io-protocol/>
const NOOP: &[u8] = b"6";
const CLOSE: &[u8] = b"1";

/// The packet after which a client reads nothing more of its payload: it leaves the main namespace, and then closes by itself. A
/// close packet in the same payload would make it report two ends.
const DISCONNECT: &[u8] = b"41";

/// What stands between two packets of a payload.
const SEPARATOR: u8 = 0x1E;

/// Opcodes of frames. Source: RFC 6455 §5.2
const TEXT_FRAME: u8 = 1;
const CLOSE_FRAME: u8 = 8;

/// A frame of an opcode that does not exist. Its reader finds that the client has broken the protocol.
const NO_FRAME: [u8; 6] = [0x83, 0x80, 0, 0, 0, 0];

impl Pipe {
    /// An empty pipe.
    pub(crate) fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), max_bytes })
    }

    /// Waits for something to say to the client, and returns it as a payload. After `deadline` it is a packet that says nothing.
    ///
    /// # Errors
    /// [`PollRefused`].
    ///
    /// # Cancel safety
    /// None: the client counts as gone.
    pub(crate) async fn poll(&self, deadline: Duration) -> Result<Vec<u8>, PollRefused> {
        let came_while_probing = self.begin_poll()?;
        let mut polling = Polling { pipe: self, is_done: false };
        let deadline = if came_while_probing { deadline.min(PROBING_DEADLINE) } else { deadline };
        let polled = timeout(deadline, poll_fn(|context| self.poll_out(context, came_while_probing))).await;
        polling.is_done = true;
        Ok(polled.unwrap_or_else(|_| NOOP.to_vec()))
    }

    /// A POST begins.
    ///
    /// # Errors
    /// [`PollRefused`].
    pub(crate) fn begin_give(self: &Arc<Self>) -> Result<Giving, PollRefused> {
        let mut state = self.state();
        state.check_open()?;
        if state.is_refused {
            return Err(PollRefused::Gone);
        }
        if mem::replace(&mut state.is_given, true) {
            self.end(state, PipeEnd::Broken);
            return Err(PollRefused::Overlap);
        }
        Ok(Giving { pipe: self.clone(), is_done: false })
    }

    /// A WebSocket comes that may take over.
    ///
    /// # Errors
    /// [`PollRefused`]. Another one does not end the session.
    pub(crate) fn begin_upgrade(self: &Arc<Self>) -> Result<Probe, PollRefused> {
        let mut state = self.state();
        state.check_open()?;
        if !matches!(state.upgrade, Upgrade::No) {
            return Err(PollRefused::Overlap);
        }
        state.upgrade = Upgrade::Opened;
        Ok(Probe { pipe: self.clone(), is_done: false })
    }

    /// See [`super::Stream::try_write`].
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        if state.end.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let n_taken = bytes.len().min(state.room(self.max_bytes));
        if n_taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.out.extend_from_slice(&bytes[..n_taken]);
        state.count_whole();
        let poller = if state.n_whole > 0 { state.poller.take() } else { None };
        drop(state);
        wake([poller]);
        Ok(n_taken)
    }

    /// Waits until there is room to write, or until a WebSocket takes over.
    pub(super) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if state.end.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.is_writable(self.max_bytes) || matches!(state.upgrade, Upgrade::Ready(_)) {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Waits for something that the client says.
    pub(super) fn poll_read(&self, context: &mut Context<'_>) -> Poll<Came> {
        let mut state = self.state();
        if matches!(state.upgrade, Upgrade::Ready(_)) {
            return Poll::Ready(Came::Upgrade);
        }
        if !state.incoming.is_empty() {
            let (frames, giver) = (mem::take(&mut state.incoming), state.giver.take());
            drop(state);
            wake([giver]);
            return Poll::Ready(Came::Frames(frames));
        }
        if state.end.is_some() {
            return Poll::Ready(Came::End);
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Takes the WebSocket that takes over, if it is ready.
    pub(super) fn take_over(&self) -> Option<TakenOver> {
        let mut state = self.state();
        if !matches!(state.upgrade, Upgrade::Ready(_)) {
            return None;
        }
        let Upgrade::Ready(ready) = mem::replace(&mut state.upgrade, Upgrade::Done) else { return None };
        let (connection, early) = *ready;
        let mut unread = mem::take(&mut state.incoming);
        unread.extend(early);
        Some(TakenOver { connection, unread, unsent: mem::take(&mut state.out) })
    }

    /// Whether a WebSocket waits to be taken.
    pub(super) fn is_taken_over(&self) -> bool {
        matches!(self.state().upgrade, Upgrade::Ready(_))
    }

    /// The session is gone, or cannot go on.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        // A connection that nobody takes any more ends here.
        let upgrade = mem::replace(&mut state.upgrade, Upgrade::Done);
        state.end = None;
        self.end(state, PipeEnd::Gone);
        drop(upgrade);
    }

    fn begin_poll(&self) -> Result<bool, PollRefused> {
        let mut state = self.state();
        match state.check_open() {
            // The server's last words are still there.
            Err(PollRefused::Gone) if state.n_whole > 0 && !state.is_polled => {}
            checked => checked?,
        }
        if mem::replace(&mut state.is_polled, true) {
            self.end(state, PipeEnd::Broken);
            return Err(PollRefused::Overlap);
        }
        Ok(matches!(state.upgrade, Upgrade::Probing))
    }

    fn poll_out(&self, context: &mut Context<'_>, came_while_probing: bool) -> Poll<Vec<u8>> {
        let mut state = self.state();
        if matches!(state.upgrade, Upgrade::Ready(_) | Upgrade::Done) && state.end.is_none() {
            return Poll::Ready(NOOP.to_vec());
        }
        if let Some(payload) = state.take_payload() {
            let reader = if state.end.is_some() { state.reader.take() } else { None };
            let writer = if state.is_writable(self.max_bytes) { state.writer.take() } else { None };
            drop(state);
            wake([reader, writer]);
            return Poll::Ready(payload);
        }
        if state.end.is_some() || (matches!(state.upgrade, Upgrade::Probing) && !came_while_probing) {
            return Poll::Ready(NOOP.to_vec());
        }
        state.poller = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_give(&self, context: &mut Context<'_>, frames: &mut Vec<u8>) -> Poll<Result<(), PollRefused>> {
        let mut state = self.state();
        state.check_open()?;
        if !state.incoming.is_empty() {
            state.giver = Some(context.waker().clone());
            return Poll::Pending;
        }
        state.incoming = mem::take(frames);
        let reader = state.reader.take();
        drop(state);
        wake([reader]);
        Poll::Ready(Ok(()))
    }

    /// Ends the pipe, unless it has ended, or a WebSocket has taken over.
    fn end(&self, mut state: MutexGuard<'_, State>, end: PipeEnd) {
        if end != PipeEnd::Gone && matches!(state.upgrade, Upgrade::Ready(_) | Upgrade::Done) {
            return;
        }
        state.end.get_or_insert(end);
        let State { reader, writer, poller, giver, prober, .. } = &mut *state;
        let wakers = [reader.take(), writer.take(), poller.take(), giver.take(), prober.take()];
        drop(state);
        wake(wakers);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is done in one step, so what a panic leaves behind can be used.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Giving {
    /// Puts frames in, once the session has read those before. `says_close` tells that the client is done with them.
    ///
    /// # Errors
    /// The session has ended, or has not read within `deadline`, or a WebSocket has taken over.
    ///
    /// # Cancel safety
    /// None: the client counts as gone.
    pub(crate) async fn give(
        mut self,
        mut frames: Vec<u8>,
        says_close: bool,
        deadline: Duration,
    ) -> Result<(), PollRefused> {
        if says_close {
            self.pipe.state().says_close = true;
        }
        let given = timeout(deadline, poll_fn(|context| self.pipe.poll_give(context, &mut frames))).await;
        let Ok(given) = given else { return Err(PollRefused::Gone) };
        self.is_done = true;
        given
    }

    /// The body is not what a client may send. The session finds that, and ends.
    pub(crate) fn refuse(mut self) {
        self.is_done = true;
        let mut state = self.pipe.state();
        state.is_refused = true;
        state.incoming.extend(NO_FRAME);
        let reader = state.reader.take();
        drop(state);
        wake([reader]);
    }
}

impl Probe {
    /// The WebSocket has asked. From now on, no GET waits.
    pub(crate) fn asked(&self) {
        let mut state = self.pipe.state();
        if matches!(state.upgrade, Upgrade::Opened) {
            state.upgrade = Upgrade::Probing;
        }
        let poller = state.poller.take();
        drop(state);
        wake([poller]);
    }

    /// Waits until the session has ended.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn ended(&self) {
        poll_fn(|context| {
            let mut state = self.pipe.state();
            if state.end.is_some() {
                return Poll::Ready(());
            }
            state.prober = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The WebSocket takes over. `early` is what came on it after the client's word. Returns false if the session has ended.
    pub(crate) fn complete(mut self, connection: Detached, early: Vec<u8>) -> bool {
        self.is_done = true;
        let mut state = self.pipe.state();
        if state.end.is_some() {
            return false;
        }
        state.upgrade = Upgrade::Ready(Box::new((connection, early)));
        let State { reader, writer, poller, giver, .. } = &mut *state;
        let wakers = [reader.take(), writer.take(), poller.take(), giver.take()];
        drop(state);
        wake(wakers);
        true
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        state.is_polled = false;
        state.poller = None;
        if !self.is_done {
            self.pipe.end(state, PipeEnd::Broken);
        }
    }
}

impl Drop for Giving {
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        state.is_given = false;
        state.giver = None;
        if !self.is_done {
            self.pipe.end(state, PipeEnd::Broken);
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut state = self.pipe.state();
        state.prober = None;
        if matches!(state.upgrade, Upgrade::Opened | Upgrade::Probing) {
            state.upgrade = Upgrade::No;
        }
    }
}

impl State {
    /// Whether requests may come.
    fn check_open(&self) -> Result<(), PollRefused> {
        match (&self.end, &self.upgrade) {
            (Some(_), _) => Err(PollRefused::Gone),
            (None, Upgrade::Ready(_) | Upgrade::Done) => Err(PollRefused::Upgraded),
            (None, _) => Ok(()),
        }
    }

    /// How many bytes are taken now. A client takes whole frames only. So the first frame comes in, however long it is.
    fn room(&self, max_bytes: usize) -> usize {
        let free = max_bytes.saturating_sub(self.out.len());
        let rest = match first_frame(&self.out) {
            Some((_, payload)) if self.n_whole == 0 => payload.end.saturating_sub(self.out.len()),
            _ => 0,
        };
        free.max(rest)
    }

    /// Whether it is worth while to write. With less room, each GET would be followed by a few bytes.
    fn is_writable(&self, max_bytes: usize) -> bool {
        self.n_whole == 0 || self.out.len() <= max_bytes / 2
    }

    fn count_whole(&mut self) {
        while let Some((_, payload)) = first_frame(&self.out[self.n_whole..])
            && self.n_whole + payload.end <= self.out.len()
        {
            self.n_whole += payload.end;
        }
    }

    /// The whole frames as a payload. It ends with the server's last word, and with that the pipe ends.
    fn take_payload(&mut self) -> Option<Vec<u8>> {
        let (mut payload, mut n_taken) = (Vec::with_capacity(self.n_whole), 0);
        let mut push = |packet: &[u8]| {
            if !payload.is_empty() {
                payload.push(SEPARATOR);
            }
            payload.extend_from_slice(packet);
        };
        while n_taken < self.n_whole
            && let Some((opcode, place)) = first_frame(&self.out[n_taken..])
        {
            let packet = &self.out[n_taken..][place.clone()];
            n_taken += place.end;
            match opcode {
                TEXT_FRAME => push(packet),
                CLOSE_FRAME => {
                    // Who has closed needs no close packet.
                    push(if self.says_close { NOOP } else { CLOSE });
                    self.end.get_or_insert(PipeEnd::Fetched);
                    break;
                }
                _ => {}
            }
            if packet == DISCONNECT {
                break;
            }
        }
        self.out.drain(..n_taken);
        self.n_whole -= n_taken;
        if self.out.is_empty() {
            self.out = Vec::new();
        }
        (!payload.is_empty()).then_some(payload)
    }
}

/// The opcode of the frame at the front, and where its payload is. It is none if the header is not whole. Servers do not mask.
fn first_frame(bytes: &[u8]) -> Option<(u8, Range<usize>)> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (start, length) = match second {
        126 => (4, u16::from_be_bytes(*rest.first_chunk()?).into()),
        127 => (10, u64::from_be_bytes(*rest.first_chunk()?)),
        short => (2, short.into()),
    };
    let end = usize::try_from(length).ok()?.checked_add(start)?;
    Some((first & 0x0F, start..end))
}

/// Wakes these. The lock is free then, because what is woken may need it at once.
fn wake(wakers: impl IntoIterator<Item = Option<Waker>>) {
    wakers.into_iter().flatten().for_each(Waker::wake);
}

#[cfg(test)]
mod tests;
