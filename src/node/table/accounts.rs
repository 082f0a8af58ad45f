//! What the table says of the sockets of one user, for a person who asks. And how the server closes them.

use std::time::{Duration, Instant};

use super::Table;
use super::contents::{Contents, Socket};
use crate::domain::{RoomId, SocketAccount, SocketId, UserId};
use crate::node::entry::Wanted;

impl Table {
    /// What this node knows of each of the user's sockets here, in the order of their numbers. The workers know the rest.
    pub(crate) fn account(&self, user: &UserId) -> Vec<SocketAccount> {
        self.lock().account(user, self.grace, Instant::now())
    }

    /// The server closes the user's sockets here. They go at once, also those in grace, as if the client of each had said
    /// goodbye. Returns how they were before. A socket that was going already is not among them.
    pub(crate) fn disconnect(&self, user: &UserId) -> Vec<SocketAccount> {
        let mut contents = self.lock();
        let mut accounts = contents.account(user, self.grace, Instant::now());
        accounts.retain(|account| contents.is_open(account.number));
        for account in &accounts {
            contents.want(account.number, Wanted::Left);
        }
        contents.end_room_graces(user);
        drop(contents);
        self.changed.notify_one();
        accounts
    }

    /// The server makes the user leave a room. The user's entries there go at once, also those in grace. Returns the sockets
    /// that were in the room. A socket that was leaving already is not among them.
    pub(crate) fn remove_from_room(&self, user: &UserId, room: &RoomId) -> Vec<SocketAccount> {
        let mut contents = self.lock();
        let numbers = contents.rooms.open_of(room, user);
        let known = contents.account(user, self.grace, Instant::now());
        for number in &numbers {
            contents.rooms.leave(room, *number);
        }
        drop(contents);
        self.changed.notify_one();
        // The table may have forgotten a socket whose entry was still in grace.
        let account = |number: u64| {
            known.iter().find(|known| known.number == number).cloned().unwrap_or_else(|| SocketAccount::unknown(number))
        };
        numbers.into_iter().map(account).collect()
    }

    /// Whether the node wants the socket. A socket in grace does not count.
    pub(in crate::node) fn is_wanted(&self, socket: SocketId) -> bool {
        self.lock().is_wanted(socket.number)
    }
}

impl Contents {
    fn account(&self, user: &UserId, grace: Duration, now: Instant) -> Vec<SocketAccount> {
        let numbers = self.users.get(user).map(|local| local.sockets.clone()).unwrap_or_default();
        let account = |number: &u64| {
            let socket = self.sockets.get(number)?;
            let lost_at = self.lost_at.get(number).filter(|_| socket.entry.grace().is_some());
            Some(SocketAccount {
                active_ms_ago: self.idling.silence(socket.active_at, now).map(in_ms),
                grace_left_ms: lost_at.map(|lost_at| in_ms((*lost_at + grace).saturating_duration_since(now))),
                ..socket.account(*number)
            })
        };
        let mut accounts: Vec<_> = numbers.iter().filter_map(account).collect();
        accounts.sort_unstable_by_key(|account| account.number);
        accounts
    }
}

impl Socket {
    /// What the socket itself says.
    fn account(&self, number: u64) -> SocketAccount {
        SocketAccount {
            state: self.entry.to_string(),
            is_idle: self.entry.is_idle(),
            device: self.device.clone(),
            ..SocketAccount::unknown(number)
        }
    }
}

fn in_ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
