//! What is asked about all nodes, over the pool.

use redis::{Pipeline, Value, from_redis_value_ref};

use super::{RedisStore, format};
use crate::domain::{NodeId, Timestamp};
use crate::store::{HeldNode, HeldNodes, StoreResult};

type Bytes = Vec<u8>;

/// What is read first, in its order.
type Stored = ([Option<Bytes>; 2], Option<Bytes>, String, (u64, u64), Vec<Bytes>);

/// Calls about one node.
const CALLS_A_NODE: usize = 3;

/// What `lua/drain.lua` writes in place of a generation.
const DRAINED: &[u8] = b"drained";

impl RedisStore {
    pub(super) async fn read_nodes(&self) -> StoreResult<HeldNodes> {
        let keys = &self.shared.keys;
        let mut pipeline = redis::pipe();
        pipeline.cmd("HMGET").arg(&keys.epoch).arg(&["run_id", "epoch"]).get(&keys.service.revision);
        pipeline.cmd("INFO").arg("server").cmd("TIME");
        pipeline.cmd("ZRANGE").arg(&keys.nodes).arg(0).arg(-1);
        let (epoch, revision, server, time, nodes): Stored = self.read_at_once(&pipeline).await?;
        let mut nodes: Vec<NodeId> = nodes.iter().filter_map(|node| format::parsed(node)).collect();
        nodes.sort_unstable();
        Ok(HeldNodes {
            position: format::head(&epoch, revision.as_deref(), &server)?,
            now: format::timestamp(time),
            nodes: self.read_each_node(&nodes).await?,
        })
    }

    /// Reads what is held of each node. A node that was swept meanwhile is left out.
    async fn read_each_node(&self, nodes: &[NodeId]) -> StoreResult<Vec<HeldNode>> {
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let keys = &self.shared.keys;
        let mut pipeline = Pipeline::with_capacity(nodes.len() * CALLS_A_NODE);
        for node in nodes {
            pipeline.cmd("HLEN").arg(keys.node_sockets(*node)).cmd("GET").arg(keys.node_generation(*node));
            // This comes last: a sweep takes all of a node out at once, so what was read before is whole if this is there.
            pipeline.cmd("ZSCORE").arg(&keys.nodes).arg(node.as_str());
        }
        let replies = self.call_each(&mut pipeline).await?;
        let held = |(node, replies): (&NodeId, &[Option<Value>])| {
            let [n_sockets, generation, lease_end] = replies else { return None };
            let lease_end: f64 = from_redis_value_ref(lease_end.as_ref()?).ok()?;
            Some(HeldNode {
                node: *node,
                lease_end: Timestamp(lease_end as u64),
                is_drained: matches!(generation, Some(Value::BulkString(stored)) if stored == DRAINED),
                n_sockets: n_sockets.as_ref().and_then(|reply| from_redis_value_ref(reply).ok()),
            })
        };
        Ok(nodes.iter().zip(replies.chunks(CALLS_A_NODE)).filter_map(held).collect())
    }
}
