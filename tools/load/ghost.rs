//! A node without clients: the service's own table and writer, in this process. It is how a hundred thousand users come to
//! be present, through the service's own scripts, without a hundred thousand sockets that would all be told of each other.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rollcall::domain::{NodeId, Profile, ProfileFields, RoomId, Said, UserId};
use rollcall::metrics::{Registry, TableMetrics, WriterMetrics};
use rollcall::node::{Arrival, DrainHandle, Registration, Table, Writer};
use rollcall::settings::Settings;
use rollcall::store::redis::RedisStore;

use crate::process::Redis;

/// A node that nobody is connected to.
pub(crate) struct Ghost {
    table: Arc<Table>,
    present: Vec<Registration>,
    // Its writer goes on until this program ends.
    _writer: DrainHandle,
}

impl Ghost {
    /// Starts one on `redis` under `prefix`.
    pub(crate) fn start(redis: &Redis, prefix: &str) -> Result<Self> {
        let mut settings = Settings::default();
        settings.redis.prefix = prefix.to_owned();
        let node = NodeId::from_bits(rand::random());
        let url = format!("redis://{}", redis.addr);
        let store = Arc::new(RedisStore::new(node, &url, &settings.redis, &settings.presence, Arc::new(|| ()))?);
        let mut registry = Registry::default();
        let table = Table::new(node, &settings.presence, TableMetrics::new(&mut registry));
        let metrics = WriterMetrics::new(&mut registry);
        let (writer, _link) = Writer::new(store, table.clone(), metrics, &settings.presence, &settings.redis);
        let (writer, task) = writer.into_task(Duration::from_secs(1));
        tokio::spawn(task);
        Ok(Self { table, present: Vec::new(), _writer: writer })
    }

    /// Users `{prefix}{i:06}` for `i` below `count` join; returns when Redis has said so.
    pub(crate) async fn join(&mut self, prefix: &str, count: usize, with_profile: bool) -> Result<()> {
        let mut confirmed = Vec::with_capacity(count);
        for i in 0..count {
            let user = UserId::parse(&format!("{prefix}{i:06}"))?;
            let said = Said { profile: with_profile.then(|| profile(i)), status: None };
            let (registration, receiver) = self.table.insert(&user, Arrival { said, ..Arrival::default() }, None);
            self.present.push(registration);
            confirmed.push(receiver);
        }
        for receiver in confirmed {
            let waiting = tokio::time::timeout(Duration::from_secs(60), receiver);
            waiting.await.context("the ghost node's users do not become present")??;
        }
        Ok(())
    }

    /// Everybody enters a room; returns when Redis has said so.
    pub(crate) async fn enter(&self, room: &str) -> Result<()> {
        let room = RoomId::parse(room)?;
        let mut entered = Vec::with_capacity(self.present.len());
        for registration in &self.present {
            entered.push(registration.join_room(1, &room)?);
        }
        for receiver in entered {
            let waiting = tokio::time::timeout(Duration::from_secs(60), receiver);
            waiting.await.context("the ghost node's users do not enter the room")??;
        }
        Ok(())
    }

    /// User number `i` of those who joined goes out of the room if they are in it, else comes back into it; returns at once.
    pub(crate) fn move_in_or_out(&self, i: usize, room: &str, is_in: bool) -> Result<()> {
        let (registration, room) = (&self.present[i], RoomId::parse(room)?);
        if is_in {
            registration.leave_room(&room);
        } else {
            // Who waits for Redis here would wait longer than for the listeners.
            drop(registration.join_room(1, &room)?);
        }
        Ok(())
    }

    /// Everybody leaves; returns at once.
    pub(crate) fn leave(&mut self) {
        self.present.drain(..).for_each(Registration::leave);
    }
}

fn profile(i: usize) -> Option<Profile> {
    Profile::from_fields(&ProfileFields {
        name: Some(format!("John Doe {i}")),
        username: Some(format!("johndoe{i}")),
        email: Some(format!("john{i}@example.com")),
        avatar: Some(format!("/uploads/profiles/user{i}.jpg")),
        metadata: None,
    })
}
