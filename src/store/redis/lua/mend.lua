-- mend.lua: mends one user who has looked like a ghost for a while. Sockets of nodes that do not exist go. If no socket
-- is left, the user goes offline with reason node_lost.
--
-- ==== ARGV (own) ====
-- [10] user id
-- ==== Reply ====
-- 1 if anything was mended, else 0
-- ==== Why atomic ====
-- The user may have come back since. Then nothing may be removed.
local user = ARGV[10]

local epoch = redis.call('HGET', EPOCH, 'epoch')
local suspended = tonumber(redis.call('GET', SWEEP_AFTER) or '0') > now_ms
if not epoch or not whole(redis.call('GET', REVISION)) or suspended then return 0 end
local is_present = redis.call('SISMEMBER', USERS, user) == 1 or redis.call('SISMEMBER', HIDDEN, user) == 1
if not is_present or not looks_like_a_ghost(USER_SOCKETS .. user) then return 0 end
local since
for _, socket in ipairs(redis.call('HKEYS', USER_SOCKETS .. user)) do
  local node = node_of(socket)
  if not redis.call('ZSCORE', NODES, node) then since = earlier(since, remove_socket(user, socket, node)) end
end
local entries = settle(epoch, user, 'node_lost', since, '0')
if #entries > 0 then reconsider(epoch, user, redis.call('GET', PRESENCE .. user) or nil, entries, 0) end
return 1
