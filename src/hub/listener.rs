//! One socket as its hub sees it. The hub knows how far the socket has been served, and which frames wait for this
//! socket alone.

mod attention;
mod backlog;
mod places;
mod rooms;
mod writing;

use std::io;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub(crate) use self::attention::{Attention, ListenerAccount};
use self::backlog::{Backlog, Private};
pub(super) use self::places::Place;
use self::places::Seldom;
use super::streams::{StreamKey, Streams};
use super::watch::{Mark, Taken, Watches};
use crate::domain::UserId;
use crate::wire::Format;

/// Where a socket's bytes go: the seam between fan-out and transport.
pub trait Outbound {
    /// Writes what can be written without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if nothing can be written now. Any other error ends the socket.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Writes what was taken and is still here. Most transports keep nothing.
    ///
    /// # Errors
    /// `WouldBlock` if something is still here. Any other error ends the socket.
    fn try_flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket's state in the hub.
///
/// A socket that hears everyone gets the service's log from `position` on. It gets the log of each of its rooms from its
/// [`Place`] there on. The [`Backlog`] has the differences. Another socket gets only what is put into its backlog.
pub(crate) struct Listener {
    outbound: Rc<dyn Outbound>,
    format: Format,
    hears_everyone: bool,
    is_paused: bool,
    /// The place of the socket among those that hear everyone ([`super::audience::Audience`]).
    place: u32,
    /// The user of the socket, while the socket has joined.
    user: Option<UserId>,
    watches: Option<Box<Watches>>,
    position: u64,
    /// The change of the view up to which the socket was shown everything when it began to listen.
    shown_up_to: u64,
    /// It is none while it would be empty. So an idle socket holds no memory for it.
    backlog: Option<Box<Backlog>>,
    blocked: bool,
    /// Whether the socket refused bytes at least once since it was at the end of all logs.
    lagged: bool,
    hole: Hole,
    broken: bool,
    /// Whether the server closes the socket.
    dismissed: bool,
    /// The low bits of the socket's number. They tell the sockets of one user apart, and need half of the memory.
    number: u32,
    /// When the last frame came, in ms since the hub began. It starts again from 0 after 49 days. A socket is never silent
    /// for so long.
    heard_ms: u32,
    /// It is none for most sockets.
    seldom: Option<Box<Seldom>>,
    /// The session's waker, if the session waits for something to do.
    waker: Option<Waker>,
}

/// Whether the socket has lost events of the service or of a room, and what caused it. It then starts over as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hole {
    No,
    /// The socket did not read in time, and the log has forgotten the events.
    ReadTooSlowly,
    /// The node skipped events. The hub says when the socket's turn to start over comes.
    Skipped,
    /// The node skipped events, and the socket's turn has come.
    SkippedAndDue,
}

/// Who caused that a socket misses events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Client,
    Node,
}

/// The limit of private bytes. Above the limit, the client counts as one that does not read its answers. Its further
/// requests are then not read.
const CONGESTED_BYTES: usize = 64 * 1024;

impl Listener {
    pub(crate) fn new(outbound: Rc<dyn Outbound>, format: Format) -> Self {
        Self {
            outbound,
            format,
            hears_everyone: false,
            is_paused: false,
            place: 0,
            user: None,
            watches: None,
            position: 0,
            shown_up_to: 0,
            backlog: None,
            blocked: false,
            lagged: false,
            hole: Hole::No,
            broken: false,
            dismissed: false,
            number: 0,
            heard_ms: 0,
            seldom: None,
            waker: None,
        }
    }

    /// The socket speaks another format from now on. It reads no log yet.
    pub(super) fn set_format(&mut self, format: Format) {
        self.format = format;
    }

    /// The format that the socket speaks. It decides which log the socket reads.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// The user of the socket.
    pub(crate) fn user(&self) -> Option<&UserId> {
        self.user.as_ref()
    }

    /// The socket is one of this user from now on. Returns whose it was.
    pub(super) fn set_user(&mut self, user: Option<UserId>) -> Option<UserId> {
        std::mem::replace(&mut self.user, user)
    }

    /// Whether the socket hears of everyone. It does not while it is paused.
    pub(super) fn hears_everyone(&self) -> bool {
        self.hears_everyone
    }

    /// The place of the socket among those that hear everyone.
    pub(super) fn place(&self) -> u32 {
        self.place
    }

    /// The socket has another place among those that hear everyone.
    pub(super) fn set_place(&mut self, place: u32) {
        self.place = place;
    }

    /// Whether the client has paused the socket.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// The client pauses the socket, or it goes on.
    pub(super) fn set_paused(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// Whether the socket misses events that it should have heard, and whether its client caused that.
    pub(super) fn hole(&self, streams: &Streams) -> Option<Fault> {
        match self.hole {
            Hole::ReadTooSlowly => Some(Fault::Client),
            Hole::Skipped | Hole::SkippedAndDue => Some(Fault::Node),
            Hole::No if self.is_behind_in_any(streams) => Some(Fault::Client),
            Hole::No => None,
        }
    }

    /// The socket misses events, and starts over.
    pub(super) fn fall_off_by(&mut self, fault: Fault) {
        self.lagged = fault == Fault::Client;
        self.fall_off();
    }

    /// See [`Watches::settle`].
    pub(super) fn settle_watches(&mut self, sequence: u64, max: usize, show: impl FnMut(&UserId, Mark) -> Mark) {
        if let Some(watches) = &mut self.watches {
            watches.settle(sequence, max, show);
        }
    }

    /// The socket does not watch the user any more. Returns whether it did.
    pub(super) fn unwatch(&mut self, user: &UserId) -> bool {
        self.watches.as_mut().is_some_and(|watches| watches.remove(user))
    }

    /// The users that the socket watches, to add one.
    pub(super) fn watches_mut(&mut self) -> &mut Watches {
        self.watches.get_or_insert_default()
    }

    /// The users that the socket watches.
    pub(super) fn watches(&self) -> Option<&Watches> {
        self.watches.as_deref()
    }

    /// The socket watches nobody any more. Returns whom it watched.
    pub(super) fn take_watches(&mut self) -> Option<Box<Watches>> {
        self.watches.take()
    }

    /// A watched user has changed, by the change number `sequence` of the view. Tells it now if the socket takes bytes.
    /// Otherwise it is told later. Returns whether something is to be written.
    pub(super) fn see(&mut self, user: &UserId, sequence: u64, mark: Mark, frame: Option<&Bytes>) -> bool {
        let can_tell = !self.blocked && !self.is_paused;
        let Some(watches) = &mut self.watches else { return false };
        match (watches.take(user, sequence, mark, can_tell), frame) {
            (Taken::Told, Some(frame)) => {
                let place = Some((StreamKey::SERVICE, self.position));
                self.backlog.get_or_insert_default().put(Private { place, sequence, frame: frame.clone() });
                true
            }
            (Taken::Told | Taken::Known | Taken::Due, _) => false,
        }
    }

    /// Whether the client may have to be told something of the users that it watches, as soon as it can be.
    fn owes_states(&self) -> bool {
        !self.is_paused && self.watches.as_ref().is_some_and(|watches| watches.are_due())
    }

    /// The socket is about to be shown everything up to the change number `sequence`. It is not told such a change.
    pub(crate) fn begin_after(&mut self, sequence: u64) {
        self.shown_up_to = sequence;
    }

    /// Hears of everyone from `position` on. Ranges after `position` that are left out are still left out.
    pub(crate) fn listen(&mut self, position: u64) {
        self.hears_everyone = true;
        self.position = position;
        if let Some(backlog) = &mut self.backlog {
            backlog.forget_skips_up_to(position);
        }
        // Events of rooms may be missing as well. Then the socket still starts over.
        if !self.hears_rooms() {
            self.heal();
        }
    }

    /// The socket misses nothing any more: it was shown everything, or does not want to hear anything.
    pub(super) fn heal(&mut self) {
        if std::mem::replace(&mut self.hole, Hole::No) == Hole::ReadTooSlowly {
            self.seldom.get_or_insert_default().last_resync = Some(Instant::now());
        }
    }

    /// Does not hear of everyone any more.
    pub(crate) fn mute(&mut self) {
        self.forget_skips();
        self.hears_everyone = false;
        self.forget_hole_of_nothing();
    }

    /// Who hears nothing can miss nothing.
    fn forget_hole_of_nothing(&mut self) {
        if !self.hears_everyone && !self.hears_rooms() {
            self.hole = Hole::No;
        }
    }

    /// Leaves out an event about the socket's own user. The service's log starts at `log_start`. Ranges before that are
    /// dropped, because the log has forgotten them. So a socket that never reads has no more ranges than the log has events.
    pub(crate) fn skip(&mut self, begin: u64, end: u64, log_start: u64) {
        self.backlog.get_or_insert_default().skip(begin, end, log_start);
    }

    /// Puts a frame for this socket alone at `position` of the service's log, which is the log's end.
    pub(crate) fn send(&mut self, position: u64, frame: Bytes) {
        let place = Some((StreamKey::SERVICE, position));
        self.backlog.get_or_insert_default().put(Private { place, sequence: 0, frame });
    }

    /// Does the same with a frame that tells the change number `sequence` of the own user, unless the socket was shown it
    /// or is paused.
    pub(crate) fn tell(&mut self, position: u64, sequence: u64, frame: Bytes) {
        if sequence > self.shown_up_to && !self.is_paused {
            let place = Some((StreamKey::SERVICE, position));
            self.backlog.get_or_insert_default().put(Private { place, sequence, frame });
        }
    }

    /// Puts a frame that shows the views at the change number `sequence`. `place` is where that is in a stream. Frames that
    /// tell later changes come after it. None of them has been written in part, because the views were read just now.
    pub(crate) fn show(&mut self, place: Option<(StreamKey, u64)>, sequence: u64, frame: Bytes) {
        let private = Private { place, sequence: 0, frame };
        self.backlog.get_or_insert_default().put_before_later(sequence, private);
    }

    /// Whether the client does not read its answers.
    pub(crate) fn is_congested(&self) -> bool {
        self.backlog.as_ref().is_some_and(|backlog| backlog.private_bytes() > CONGESTED_BYTES)
    }

    /// Whether the socket takes bytes, as far as is known.
    pub(super) fn takes_bytes(&self) -> bool {
        !self.blocked && !self.broken
    }

    /// Whether everything that waits for this socket alone has been written, and nothing that was begun is still here.
    pub(crate) fn is_drained(&self) -> bool {
        let has_no_private = self.backlog.as_ref().is_none_or(|backlog| backlog.has_no_private());
        has_no_private && !self.holds_back() || self.broken
    }

    /// Whether the transport has bytes that it could not write yet. Then it takes more of them later.
    fn holds_back(&self) -> bool {
        self.outbound.try_flush().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The socket can be written to again.
    pub(crate) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// The socket has this number on its node.
    pub(crate) fn set_number(&mut self, number: u64) {
        self.number = low_bits(number);
    }

    /// A frame came, at this time of the hub.
    pub(crate) fn heard(&mut self, hub_time: Duration) {
        self.heard_ms = whole_ms(hub_time);
    }

    /// What there is to say of the socket, at this time of the hub.
    pub(crate) fn account(&self, hub_time: Duration) -> ListenerAccount {
        let heard_ms_ago = whole_ms(hub_time).wrapping_sub(self.heard_ms);
        ListenerAccount {
            number: self.number,
            format: self.format.name(),
            heard_ago: Duration::from_millis(heard_ms_ago.into()),
            is_blocked: self.blocked,
        }
    }

    /// The server closes the socket: the session is to end.
    pub(crate) fn dismiss(&mut self) {
        self.dismissed = true;
        self.wake();
    }

    /// Whether the server closes the socket. If it does not, the session is woken when it does.
    pub(crate) fn is_dismissed(&mut self, waker: &Waker) -> bool {
        if !self.dismissed {
            self.remember_waker(waker);
        }
        self.dismissed
    }

    /// What the session must do now, if anything. If there is nothing, the session is woken when there is something.
    pub(crate) fn attention(&mut self, resync_interval: Duration, waker: &Waker) -> Option<Attention> {
        let last_resync = self.seldom.as_ref().and_then(|seldom| seldom.last_resync);
        let is_too_soon = || last_resync.is_some_and(|last| last.elapsed() < resync_interval);
        if self.broken {
            Some(Attention::Broken)
        } else if self.dismissed {
            Some(Attention::Disconnect)
        } else if self.hole == Hole::ReadTooSlowly && is_too_soon() {
            Some(Attention::TooSlow)
        } else if self.blocked {
            Some(Attention::Blocked)
        } else if self.was_removed_from_rooms() {
            Some(Attention::Removed)
        } else if matches!(self.hole, Hole::ReadTooSlowly | Hole::SkippedAndDue) {
            Some(Attention::Resync)
        } else if self.owes_states() && self.is_drained() {
            Some(Attention::Owed)
        } else {
            self.remember_waker(waker);
            None
        }
    }

    fn remember_waker(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    /// The node skipped events that the socket should have heard. The socket starts over when its turn comes. Whoever
    /// watches is owed states, not events.
    pub(crate) fn fall_off_unawares(&mut self) {
        if let Some(watches) = &mut self.watches {
            watches.make_all_due();
        }
        if (self.hears_everyone || self.hears_rooms()) && self.hole != Hole::ReadTooSlowly {
            self.hole = Hole::Skipped;
            self.forget_skips();
        }
    }

    /// The socket's turn to start over has come, if the node skipped events. Returns whether there is something to do.
    pub(crate) fn begin_resync(&mut self) -> bool {
        if self.hole == Hole::Skipped {
            self.hole = Hole::SkippedAndDue;
        } else if !self.owes_states() {
            return false;
        }
        self.wake();
        true
    }

    /// A log has forgotten bytes that the socket has not got. The client caused this only if the socket refused bytes
    /// meanwhile. Otherwise more events came at once than the log holds.
    fn fall_off(&mut self) {
        self.hole = if self.lagged { Hole::ReadTooSlowly } else { Hole::SkippedAndDue };
        self.forget_skips();
        self.wake();
    }

    fn forget_skips(&mut self) {
        if let Some(backlog) = &mut self.backlog {
            backlog.forget_skips();
        }
        self.release_backlog();
    }

    /// Wakes the session: it may have something to do.
    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
fn low_bits(number: u64) -> u32 {
    number as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
fn whole_ms(time: Duration) -> u32 {
    time.as_millis() as u32
}

/// Each idle socket has one.
const _: () = assert!(size_of::<Listener>() <= 112);

#[cfg(test)]
mod tests;
