-- sweep.lua: removes one bounded batch of sockets of a node whose lease has run out. The first batch fences the node
-- (lease end 0). After that, any peer or the node itself can go on. The node's traces go when it holds no socket.
--
-- ==== ARGV (own) ====
-- [10] node id  [11] sockets at most  [12] lease, ms
-- ==== Reply ====
-- {'DONE' | 'MORE' | 'LIVE' | 'GONE', sockets removed, users gone offline, ms since the lease ended}
-- The last is -1 unless the lease was lost (not drained) and this batch is the first to find that.
-- LIVE: the lease is good, or sweeps are suspended. beat.lua suspends them. They are also suspended if no node has
-- beaten since Redis was out of reach.
-- GONE: there is no such node.
-- ==== Why atomic ====
-- The lease is checked again before anything is removed. The node may have beaten since it was listed.
local node, limit, lease_ms = ARGV[10], tonumber(ARGV[11]), tonumber(ARGV[12])

local lease_end = tonumber(redis.call('ZSCORE', NODES, node) or '')
if not lease_end then return { 'GONE', 0, 0, -1 } end
local epoch = redis.call('HGET', EPOCH, 'epoch')
local suspended = tonumber(redis.call('GET', SWEEP_AFTER) or '0') > now_ms or not somebody_beats(lease_ms)
if not epoch or not whole(redis.call('GET', REVISION)) or (lease_end > 0 and (lease_end > now_ms or suspended)) then
  return { 'LIVE', 0, 0, -1 }
end

local drained = redis.call('GET', NODE_GENERATION .. node) == 'drained'
local sockets = redis.call('HRANDFIELD', NODE_SOCKETS .. node, limit, 'WITHVALUES')
local overdue_ms = (lease_end > 0 and not drained) and now_ms - lease_end or -1
local n_users = 0
redis.call('ZADD', NODES, 0, node)
for i = 1, #sockets, 2 do
  local socket, user = sockets[i], sockets[i + 1]
  local since = remove_socket(user, socket, node)
  local entries, is_gone = settle(epoch, user, drained and 'node_drained' or 'node_lost', since, '0')
  if is_gone then n_users = n_users + 1 end
  if #entries > 0 then reconsider(epoch, user, redis.call('GET', PRESENCE .. user) or nil, entries, 0) end
end
if redis.call('EXISTS', NODE_SOCKETS .. node) == 1 then return { 'MORE', #sockets / 2, n_users, overdue_ms } end
redis.call('ZREM', NODES, node)
redis.call('ZREM', ASSERTED, node)
redis.call('DEL', NODE_GENERATION .. node)
return { 'DONE', #sockets / 2, n_users, overdue_ms }
