-- drain.lua: a node ends. Its lease lasts for the time that its clients need to come back on other nodes. Sockets that
-- are still there after that are swept with reason node_drained. The word 'drained' takes the place of the generation,
-- and so every later order of the node is refused.
--
-- ==== ARGV (own) ====
-- [10] node id  [11] rest of the lease, ms
-- ==== Reply ====
-- {'OK'} or {'LEASE'} (the node is not there, or is being swept already)
-- ==== Why atomic ====
-- A sweep may have fenced the node. The node's lease must not come back to life.
local node, rest_ms = ARGV[10], tonumber(ARGV[11])

local lease_end = tonumber(redis.call('ZSCORE', NODES, node) or '')
if not lease_end or lease_end == 0 then return { 'LEASE' } end
redis.call('ZADD', NODES, text(now_ms + rest_ms), node)
redis.call('SET', NODE_GENERATION .. node, 'drained')
return { 'OK' }
