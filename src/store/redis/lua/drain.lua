-- drain.lua: a node ends. Its lease runs only as long as its clients need to come back elsewhere; what they leave behind is
-- then swept with reason node_drained. The word in place of the generation refuses every later order of the node.
--
-- ==== ARGV (own) ====
-- [10] node id  [11] rest of the lease, ms
-- ==== Reply ====
-- {'OK'} or {'LEASE'} (the node is not there, or is being swept already)
-- ==== Why atomic ====
-- A sweep may have fenced the node; its lease must not come back to life.
local node, rest_ms = ARGV[10], tonumber(ARGV[11])

local lease_end = tonumber(redis.call('ZSCORE', NODES, node) or '')
if not lease_end or lease_end == 0 then return { 'LEASE' } end
redis.call('ZADD', NODES, text(now_ms + rest_ms), node)
redis.call('SET', NODE_GENERATION .. node, 'drained')
return { 'OK' }
