//! The node's one ordered connection: its beats and orders, pipelined.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{AsyncConnectionConfig, Cmd};

use super::connection::Connection;
use super::{Shared, StoreResult, format};
use crate::domain::{Presence, RoomId, Scope, SocketId, Timestamp, UserId};
use crate::store::{Beat, BeatReply, Claim, Intent, Join, Order, Outcome, StoreWriter};

/// See [`StoreWriter`].
pub(super) struct RedisWriter {
    connection: Connection,
    shared: Arc<Shared>,
}

impl RedisWriter {
    /// Connects and loads the scripts. The caller's first call is a beat.
    pub(super) async fn open(shared: Arc<Shared>) -> StoreResult<Self> {
        let mut connection = Connection::open(&shared, &shared.client, AsyncConnectionConfig::new()).await?;
        let _: Vec<String> = shared.within(shared.scripts.load_all().query_async(&mut connection)).await?;
        Ok(Self { connection, shared })
    }

    fn order_command(&self, claim: Claim, order: &Order) -> Cmd {
        match &order.scope {
            Scope::Service => self.service_command(claim, order),
            Scope::Room(room) => self.room_command(claim, order, room),
        }
    }

    fn service_command(&self, claim: Claim, order: &Order) -> Cmd {
        let scripts = &self.shared.scripts;
        let script = match &order.intent {
            Intent::Join(_) => &scripts.join,
            Intent::Idle(_) => &scripts.idle,
            Intent::Grace => &scripts.grace,
            Intent::Leave => &scripts.leave,
            Intent::Remove(_) => &scripts.remove,
        };
        let mut command = self.shared.preamble.call(script);
        self.push_entry(&mut command, claim, order);
        match &order.intent {
            Intent::Join(join) => self.push_join(&mut command, join, order.active_at),
            Intent::Idle(is_idle) => _ = command.arg(order.active_at.0).arg(u8::from(*is_idle)),
            Intent::Leave => _ = command.arg(order.active_at.0),
            Intent::Remove(reason) => _ = command.arg(order.active_at.0).arg(reason.as_str()),
            Intent::Grace => {}
        }
        command
    }

    fn room_command(&self, claim: Claim, order: &Order, room: &RoomId) -> Cmd {
        let scripts = &self.shared.scripts;
        let script = match &order.intent {
            Intent::Join(_) => &scripts.room_join,
            Intent::Idle(_) => &scripts.room_idle,
            Intent::Grace => &scripts.room_grace,
            Intent::Leave => &scripts.room_leave,
            Intent::Remove(_) => &scripts.room_remove,
        };
        let mut command = self.shared.preamble.call_about_rooms(script);
        self.push_entry(&mut command, claim, order);
        command.arg(room.as_str());
        match &order.intent {
            Intent::Join(join) => _ = command.arg(self.shared.user_ttl_ms()).arg(join.since.0),
            Intent::Remove(reason) => _ = command.arg(reason.as_str()),
            Intent::Idle(_) | Intent::Grace | Intent::Leave => {}
        }
        command
    }

    fn push_entry(&self, command: &mut Cmd, claim: Claim, order: &Order) {
        command.arg(self.shared.node.as_str()).arg(claim.epoch).arg(claim.generation);
        command.arg(order.socket.to_string()).arg(order.user.as_str());
    }

    fn push_join(&self, command: &mut Cmd, join: &Join, active_at: Timestamp) {
        let Presence { profile, profile_at, .. } = &join.presence;
        let ttl_ms = self.shared.presence.user_ttl.as_millis() as u64;
        command.arg(profile.as_ref().map_or("", |profile| profile.members())).arg(profile_at.0);
        command.arg(active_at.0).arg(ttl_ms).arg(join.since.0).arg(format::seldom_there(join));
    }

    async fn send_beat(&mut self, beat: Beat) -> StoreResult<BeatReply> {
        let mut command = self.shared.preamble.call(&self.shared.scripts.beat);
        command.arg(self.shared.node.as_str()).arg(beat.generation);
        command.arg(self.shared.presence.lease.as_millis() as u64).arg(beat.seen);
        command.arg(beat.asserted).arg(beat.all_asserted).arg(beat.heard_at.0);
        command.arg(beat.waits_since.map_or(0, |since| since.0));
        command.arg(self.shared.keys.node_rooms(self.shared.node));
        // If somebody flushed the scripts, this fails. The connection that replaces this one loads them again.
        let reply: Vec<String> = self.shared.within(command.query_async(&mut self.connection)).await?;
        format::beat_reply(&reply)
    }

    async fn send_orders(&mut self, claim: Claim, orders: &[Order]) -> StoreResult<Vec<Outcome>> {
        if orders.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::Pipeline::with_capacity(orders.len());
        for order in orders {
            pipeline.add_command(self.order_command(claim, order));
        }
        let replies: Vec<Vec<String>> = self.shared.within(pipeline.query_async(&mut self.connection)).await?;
        let outcomes = orders.iter().zip(&replies);
        outcomes.map(|(order, reply)| format::outcome(claim.epoch, order, reply)).collect()
    }

    async fn send_drain(&mut self, lease: Duration) -> StoreResult<()> {
        let mut command = self.shared.preamble.call(&self.shared.scripts.drain);
        command.arg(self.shared.node.as_str()).arg(lease.as_millis() as u64);
        let _: Vec<String> = self.shared.within(command.query_async(&mut self.connection)).await?;
        Ok(())
    }

    async fn read_held_sockets(&mut self) -> StoreResult<Vec<(SocketId, UserId)>> {
        let node = self.shared.node;
        let key = self.shared.keys.node_sockets(node).to_string();
        self.read_held(&key, |field, user| {
            let socket = format::parsed::<SocketId>(field).filter(|socket| socket.node == node)?;
            Some((socket, user))
        })
        .await
    }

    async fn read_held_room_entries(&mut self) -> StoreResult<Vec<(RoomId, SocketId, UserId)>> {
        let node = self.shared.node;
        let key = self.shared.keys.node_rooms(node).to_string();
        self.read_held(&key, |field, user| {
            let (room, socket) = format::room_entry(field).filter(|(_, socket)| socket.node == node)?;
            Some((room, socket, user))
        })
        .await
    }

    /// What one of this node's registries holds. `read` gets a field with the user in it. Removes what no node can have written.
    async fn read_held<T>(&mut self, key: &str, read: impl Fn(&[u8], UserId) -> Option<T>) -> StoreResult<Vec<T>> {
        let mut command = redis::cmd("HGETALL");
        command.arg(key);
        let stored: Vec<(Vec<u8>, Vec<u8>)> = self.shared.within(command.query_async(&mut self.connection)).await?;
        let (mut held, mut foreign) = (Vec::new(), Vec::new());
        for (field, user) in stored {
            match format::known_user(&user).and_then(|user| read(&field, user)) {
                Some(entry) => held.push(entry),
                None => foreign.push(field),
            }
        }
        self.shared.remove_foreign(&mut self.connection, "HDEL", key, &foreign).await?;
        Ok(held)
    }
}

impl StoreWriter for RedisWriter {
    fn beat(&mut self, beat: Beat) -> BoxFuture<'_, StoreResult<BeatReply>> {
        self.send_beat(beat).boxed()
    }

    fn drive<'a>(&'a mut self, claim: Claim, orders: &'a [Order]) -> BoxFuture<'a, StoreResult<Vec<Outcome>>> {
        self.send_orders(claim, orders).boxed()
    }

    fn sweep_self(&mut self) -> BoxFuture<'_, StoreResult<bool>> {
        async {
            let batch = self.shared.sweep_node(&mut self.connection, self.shared.node).await?;
            Ok(batch.is_none_or(|batch| batch.finished))
        }
        .boxed()
    }

    fn drain(&mut self, lease: Duration) -> BoxFuture<'_, StoreResult<()>> {
        self.send_drain(lease).boxed()
    }

    fn held_sockets(&mut self) -> BoxFuture<'_, StoreResult<Vec<(SocketId, UserId)>>> {
        self.read_held_sockets().boxed()
    }

    fn held_room_entries(&mut self) -> BoxFuture<'_, StoreResult<Vec<(RoomId, SocketId, UserId)>>> {
        self.read_held_room_entries().boxed()
    }
}
