-- sweep.lua: removes one bounded batch of sockets of a node whose lease has ended, and then of its entries in rooms. The
-- first batch fences the node (lease end 0). After that, any peer or the node itself can go on. The node's traces go when
-- it holds neither. It stands behind departure.lua, presence.lua and room.lua.
--
-- ==== ARGV (own; [10..12] are those of room.lua) ====
-- [13] node id  [14] sockets and entries at most  [15] lease, ms
-- ==== Reply ====
-- five members:
--   'DONE', 'MORE', 'LIVE' or 'GONE';
--   how many sockets were removed, and how many users went offline;
--   how long ago the lease ended, ms. It is -1 for a drained node, and if this batch is not the first to find a lost lease;
--   how many entries in rooms were removed.
-- LIVE: the lease is good, or sweeps are suspended. beat.lua suspends them. They are also suspended if no node has
-- beaten since Redis was out of reach.
-- GONE: there is no such node.
-- ==== Why atomic ====
-- The lease is checked again before anything is removed. The node may have beaten since it was listed.
local node, limit, lease_ms = ARGV[13], tonumber(ARGV[14]), tonumber(ARGV[15])

local lease_end = tonumber(redis.call('ZSCORE', NODES, node) or '')
if not lease_end then return { 'GONE', 0, 0, -1, 0 } end
local epoch = redis.call('HGET', EPOCH, 'epoch')
local suspended = tonumber(redis.call('GET', SWEEP_AFTER) or '0') > now_ms or not somebody_beats(lease_ms)
if not epoch or not whole(redis.call('GET', REVISION)) or (lease_end > 0 and (lease_end > now_ms or suspended)) then
  return { 'LIVE', 0, 0, -1, 0 }
end

local drained = redis.call('GET', NODE_GENERATION .. node) == 'drained'
local sockets = redis.call('HRANDFIELD', NODE_SOCKETS .. node, limit, 'WITHVALUES')
local overdue_ms = (lease_end > 0 and not drained) and now_ms - lease_end or -1
local reason, n_users = drained and 'node_drained' or 'node_lost', 0
redis.call('ZADD', NODES, 0, node)
for i = 1, #sockets, 2 do
  local socket, user = sockets[i], sockets[i + 1]
  local since = remove_socket(user, socket, node)
  local entries, is_gone = settle(epoch, user, reason, since, '0')
  if is_gone then n_users = n_users + 1 end
  if #entries > 0 then reconsider(epoch, user, redis.call('GET', PRESENCE .. user) or nil, entries, 0) end
end
local rest, entries = limit - #sockets / 2, {}
if rest > 0 then entries = redis.call('HRANDFIELD', NODE_ROOMS .. node, rest, 'WITHVALUES') end
for i = 1, #entries, 2 do
  local room, socket = string.match(entries[i], '^([^\t]*)\t(.*)$')
  if room then
    leave_room(room, entries[i + 1], { [socket] = node }, reason)
  else
    redis.call('HDEL', NODE_ROOMS .. node, entries[i])
  end
end
local holds_more = native.call('EXISTS', NODE_SOCKETS .. node, NODE_ROOMS .. node) > 0
if not holds_more then
  redis.call('ZREM', NODES, node)
  redis.call('ZREM', ASSERTED, node, node .. AND_ROOMS)
  redis.call('DEL', NODE_GENERATION .. node)
end
return { holds_more and 'MORE' or 'DONE', #sockets / 2, n_users, overdue_ms, #entries / 2 }
