//! The Lua scripts and the arguments that they share. Each script is joined with the prelude when the program is built.

use std::time::Duration;

use redis::{Cmd, Pipeline};

use super::keys::Keys;

/// Every script of this version.
pub(super) struct Scripts {
    pub(super) join: Script,
    pub(super) idle: Script,
    pub(super) grace: Script,
    pub(super) leave: Script,
    pub(super) remove: Script,
    pub(super) beat: Script,
    pub(super) sweep: Script,
    pub(super) drain: Script,
    pub(super) ghosts: Script,
    pub(super) mend: Script,
    pub(super) forget: Script,
    pub(super) state: Script,
    pub(super) expire: Script,
    pub(super) active: Script,
    pub(super) room_join: Script,
    pub(super) room_idle: Script,
    pub(super) room_grace: Script,
    pub(super) room_leave: Script,
    pub(super) room_remove: Script,
    pub(super) room_ghosts: Script,
    pub(super) room_mend: Script,
    pub(super) register: Script,
    pub(super) unregister: Script,
    pub(super) room_access: Script,
    pub(super) signal_user: Script,
    pub(super) rights: Script,
}

/// One script: its text, and the hash that calls it.
pub(super) struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }

    /// `SCRIPT LOAD`. After it the server knows the script by its hash.
    pub(super) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(self.code);
        command
    }

    /// `EVALSHA` of a script without the prelude. The caller appends the arguments.
    pub(super) fn call_without_keys(&self) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(0);
        command
    }
}

macro_rules! script {
    ($($file:literal),+) => {
        Script::new(concat!(include_str!("lua/prelude.lua"), $(include_str!(concat!("lua/", $file))),+))
    };
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            join: script!("join.lua", "departure.lua", "presence.lua", "join_stated.lua"),
            idle: script!("departure.lua", "presence.lua", "idle.lua"),
            grace: script!("grace.lua"),
            leave: script!("departure.lua", "drained.lua", "leave.lua", "presence.lua", "remain.lua"),
            remove: script!("departure.lua", "remove.lua", "presence.lua", "remain.lua"),
            beat: script!("beat.lua"),
            sweep: script!("departure.lua", "presence.lua", "room.lua", "sweep.lua"),
            drain: script!("drain.lua"),
            ghosts: script!("ghosts.lua"),
            mend: script!("departure.lua", "presence.lua", "mend.lua"),
            forget: script!("forget.lua"),
            state: script!("departure.lua", "presence.lua", "state.lua"),
            expire: script!("departure.lua", "presence.lua", "expire.lua"),
            active: script!("active.lua"),
            room_join: script!("room.lua", "room_join.lua"),
            room_idle: script!("room.lua", "room_idle.lua"),
            room_grace: script!("room.lua", "room_grace.lua"),
            room_leave: script!("room.lua", "drained.lua", "room_leave.lua"),
            room_remove: script!("room.lua", "room_remove.lua"),
            room_ghosts: script!("room.lua", "room_ghosts.lua"),
            room_mend: script!("room.lua", "room_mend.lua"),
            register: script!("register.lua"),
            unregister: script!("unregister.lua"),
            room_access: script!("room_access.lua"),
            signal_user: script!("signal_user.lua"),
            rights: Script::new(include_str!("lua/rights.lua")),
        }
    }

    /// Loads the scripts that are called by hash alone. The writer has no fallback for NOSCRIPT.
    pub(super) fn load_all(&self) -> Pipeline {
        let mut pipeline = redis::pipe();
        let service = [&self.join, &self.idle, &self.grace, &self.leave, &self.remove, &self.beat, &self.drain];
        let rooms = [&self.room_join, &self.room_idle, &self.room_grace, &self.room_leave, &self.room_remove];
        let others = [&self.room_access, &self.signal_user];
        for script in service.into_iter().chain(rooms).chain(others) {
            pipeline.add_command(script.load());
        }
        pipeline
    }
}

/// The beginning of every call of a script: the fixed part of `lua/prelude.lua`.
#[derive(Debug, Clone)]
pub(super) struct Preamble {
    keys: Keys,
    log_length: usize,
    last_seen: String,
}

impl Preamble {
    /// `last_seen` has two times: the life of a last-seen key, and the shortest stay that it is written for.
    pub(super) fn new(keys: Keys, log_length: usize, last_seen: (Duration, Duration)) -> Self {
        let (ttl, least) = last_seen;
        Self { keys, log_length, last_seen: format!("{} {}", ttl.as_millis(), least.as_millis()) }
    }

    /// `EVALSHA` of `script` with the fixed keys and arguments. The caller appends the script's own arguments.
    pub(super) fn call(&self, script: &Script) -> Cmd {
        let (keys, families) = (self.keys.fixed(), self.keys.families());
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.hash).arg(keys.len()).arg(&keys).arg(&families);
        command.arg(self.log_length).arg(&self.last_seen);
        command
    }

    /// The same for a script with `lua/room.lua`.
    pub(super) fn call_about_rooms(&self, script: &Script) -> Cmd {
        let mut command = self.call(script);
        command.arg(&self.keys.room_names());
        command
    }
}
