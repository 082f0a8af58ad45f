-- signal_user.lua: publishes a signal to the inbox of each node on which a user has a socket.
--
-- ==== ARGV (own) ====
-- [10] user id  [11] what an inbox has before the id of the node  [12] the signal
-- ==== Reply ====
-- how many nodes
-- ==== Why atomic ====
-- It need not be atomic. One call is cheaper than two.
local user, inbox_begin, signal = unpack(ARGV, 10, 12)

local told, n_nodes = {}, 0
for _, socket in ipairs(redis.call('HKEYS', USER_SOCKETS .. user)) do
  local node = node_of(socket)
  if not told[node] then
    told[node], n_nodes = true, n_nodes + 1
    native.call('PUBLISH', inbox_begin .. node .. ':inbox', signal)
  end
end
return n_nodes
