-- room_leave.lua: the client of a socket said goodbye, and the socket was in this room. The user's entries here that are in
-- grace go too, on any node. Those on drained nodes go too. Idempotent. It stands behind drained.lua.
--
-- ==== ARGV (own; [10..18] are those of an order, in room.lua) ====
-- none
-- ==== Reply ====
-- that of an order (room.lua)
-- ==== Why atomic ====
-- The user leaves exactly when the last entry goes. If a join came in between, it would be lost or told twice.
local node, epoch, generation, socket, user, room = unpack(ARGV, 13, 18)

local refused, _, service_revision = refusal(node, epoch, generation)
if refused then return { refused } end

local nodes, entries = { [socket] = node }, redis.call('HGETALL', keys_of(room) .. 'user:socket:' .. user)
for i = 1, #entries, 2 do
  local other = node_of(entries[i])
  if is_in_grace(entries[i + 1]) or is_drained(other) then nodes[entries[i]] = other end
end
local remains, birth, revision = leave_room(room, user, nodes, 'left')
return room_reply(service_revision, birth, revision, remains)
