-- leave.lua: the client of a socket said goodbye. The user's sockets in grace go too, on any node. The user's sockets
-- on drained nodes go too. Their clients are gone already, and the goodbye must not wait for them. Idempotent.
--
-- ==== ARGV (own) ====
-- [10] node id  [11] epoch  [12] generation  [13] socket id  [14] user id  [15] when the user was last active, ms, or 0
-- ==== Reply ====
-- {'OK', revision, 1 if the user is still present, else 0} or {'EPOCH' | 'GENERATION' | 'LEASE'}
-- ==== Why atomic ====
-- The user goes offline exactly when the last socket goes. If a join came in between, it would be lost or told twice.
local node, epoch, generation, socket, user = unpack(ARGV, 10, 14)
local active_at = ARGV[15] < now_text and ARGV[15] or now_text

local refused = refusal(node, epoch, generation)
if refused then return { refused } end

local since = remove_socket(user, socket, node)
local sockets = redis.call('HGETALL', USER_SOCKETS .. user)
for i = 1, #sockets, 2 do
  local other = node_of(sockets[i])
  if is_in_grace(sockets[i + 1]) or is_drained(other) then
    since = earlier(since, remove_socket(user, sockets[i], other))
  end
end
local entries = settle(epoch, user, 'left', since, active_at)
if #entries == 0 then return { 'OK', native.call('GET', REVISION), '0' } end
