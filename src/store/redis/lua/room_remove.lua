-- room_remove.lua: takes one entry alone out of a room. Idempotent.
--
-- ==== ARGV (own; [10..18] are those of an order, in room.lua) ====
-- [19] reason
-- ==== Reply ====
-- that of an order (room.lua)
-- ==== Why atomic ====
-- The reason is the same as in room_leave.lua.
local node, epoch, generation, socket, user, room, reason = unpack(ARGV, 13, 19)

local refused, _, service_revision = refusal(node, epoch, generation)
if refused then return { refused } end

local remains, birth, revision = leave_room(room, user, { [socket] = node }, reason)
return room_reply(service_revision, birth, revision, remains)
