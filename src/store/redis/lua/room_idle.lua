-- room_idle.lua: a room does not know whether its sockets are idle. So this order changes nothing, and is answered.
--
-- ==== ARGV (own; [10..18] are those of an order, in room.lua) ====
-- none
-- ==== Reply ====
-- that of an order (room.lua)
-- ==== Why atomic ====
-- It need not be atomic.
local node, epoch, generation, _, _, room = unpack(ARGV, 13, 18)

local refused, _, service_revision = refusal(node, epoch, generation)
if refused then return { refused } end

local birth, revision = head_of(keys_of(room))
return room_reply(service_revision, birth, revision, true)
