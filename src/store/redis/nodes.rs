//! What is asked about all nodes, over the pool.

use redis::{Pipeline, Value, from_redis_value_ref};

use super::{RedisStore, format};
use crate::domain::{NodeId, Timestamp};
use crate::store::{HeldNode, HeldNodes, StoreResult};

type Bytes = Vec<u8>;

/// What is read first, in its order.
type Stored = ([Option<Bytes>; 2], Option<Bytes>, String, (u64, u64), Vec<(Bytes, f64)>);

/// Calls about one node.
const CALLS_A_NODE: usize = 2;

/// What `lua/drain.lua` writes in place of a generation.
const DRAINED: &[u8] = b"drained";

impl RedisStore {
    pub(super) async fn read_nodes(&self) -> StoreResult<HeldNodes> {
        let keys = &self.shared.keys;
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        pipeline.cmd("HMGET").arg(&keys.epoch).arg(&["run_id", "epoch"]).get(&keys.service.revision);
        pipeline.cmd("INFO").arg("server").cmd("TIME");
        pipeline.cmd("ZRANGE").arg(&keys.nodes).arg(0).arg(-1).arg("WITHSCORES");
        let mut connection = self.connection().await?;
        let stored: Stored = self.shared.within(pipeline.query_async(&mut *connection)).await?;
        drop(connection);
        let (epoch, revision, server, time, leases) = stored;
        let lease = |(node, end): &(Bytes, f64)| Some((format::parsed::<NodeId>(node)?, Timestamp(*end as u64)));
        let mut leases: Vec<_> = leases.iter().filter_map(lease).collect();
        leases.sort_unstable_by_key(|(node, _)| *node);
        Ok(HeldNodes {
            position: format::head(&epoch, revision.as_deref(), &server)?,
            now: format::timestamp(time),
            nodes: self.read_each_node(leases).await?,
        })
    }

    async fn read_each_node(&self, leases: Vec<(NodeId, Timestamp)>) -> StoreResult<Vec<HeldNode>> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(leases.len() * CALLS_A_NODE);
        for (node, _) in &leases {
            pipeline.cmd("HLEN").arg(self.shared.keys.node_sockets(*node));
            pipeline.cmd("GET").arg(self.shared.keys.node_generation(*node));
        }
        let replies = self.call_each(&mut pipeline).await?;
        let held = leases.into_iter().zip(replies.chunks(CALLS_A_NODE)).map(|((node, lease_end), replies)| HeldNode {
            node,
            lease_end,
            is_drained: matches!(&replies[1], Some(Value::BulkString(stored)) if stored == DRAINED),
            n_sockets: replies[0].as_ref().and_then(|reply| from_redis_value_ref(reply).ok()),
        });
        Ok(held.collect())
    }
}
