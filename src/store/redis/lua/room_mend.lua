-- room_mend.lua: mends one member who has looked like a ghost for a while. Entries of nodes that do not exist go. If no entry
-- is left, the user leaves with reason node_lost.
--
-- ==== ARGV (own; [10..12] are those of room.lua) ====
-- [13] room id  [14] user id
-- ==== Reply ====
-- 1 if anything was mended, else 0
-- ==== Why atomic ====
-- The user may have come back since. Then nothing may be removed.
local room, user = ARGV[13], ARGV[14]

local epoch = redis.call('HGET', EPOCH, 'epoch')
local suspended = tonumber(redis.call('GET', SWEEP_AFTER) or '0') > now_ms
if not epoch or suspended then return 0 end
local keys = keys_of(room)
local sockets_key = keys .. 'user:socket:' .. user
if redis.call('SISMEMBER', keys .. 'users:set', user) == 0 or not looks_like_a_ghost(sockets_key) then return 0 end
local nodes = {}
for _, socket in ipairs(redis.call('HKEYS', sockets_key)) do
  local node = node_of(socket)
  if not redis.call('ZSCORE', NODES, node) then nodes[socket] = node end
end
leave_room(room, user, nodes, 'node_lost')
return 1
