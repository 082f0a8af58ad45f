-- leave.lua: the client of a socket said goodbye. The user's sockets in grace, on any node, and those on drained nodes go
-- along: their clients are gone already, and the goodbye must not wait for them. Idempotent.
--
-- ==== ARGV (own) ====
-- [10] node id  [11] epoch  [12] generation  [13] socket id  [14] user id
-- ==== Reply ====
-- {'OK', revision} or {'EPOCH' | 'GENERATION' | 'LEASE'}
-- ==== Why atomic ====
-- The user is offline exactly when the last socket goes; a join in between would be lost or told twice.
local node, epoch, generation, socket, user = unpack(ARGV, 10, 14)

local refused = refusal(node, epoch, generation)
if refused then return { refused } end

remove_socket(user, socket, node)
local sockets = redis.call('HGETALL', USER_SOCKETS .. user)
for i = 1, #sockets, 2 do
  local other = node_of(sockets[i])
  if string.find(sockets[i + 1], '"grace":true', 1, true) or redis.call('GET', NODE_GENERATION .. other) == 'drained' then
    remove_socket(user, sockets[i], other)
  end
end
settle(epoch, user, 'left')
return { 'OK', redis.call('GET', REVISION) }
