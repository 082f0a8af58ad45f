-- room_remove.lua: takes one entry alone out of a room. Idempotent.
--
-- ==== ARGV (own; [10..12] are those of room.lua) ====
-- [13] node id  [14] epoch  [15] generation  [16] socket id  [17] user id  [18] room id  [19] reason
-- ==== Reply ====
-- {'OK', revision of the service, birth and revision of the room ('' if nobody is there), 1 if the user is still there, else 0} or
-- {'EPOCH' | 'GENERATION' | 'LEASE'}
-- ==== Why atomic ====
-- The reason is the same as in room_leave.lua.
local node, epoch, generation, socket, user, room, reason = unpack(ARGV, 13, 19)

local refused, _, service_revision = refusal(node, epoch, generation)
if refused then return { refused } end

local remains, birth, revision = leave_room(room, user, { [socket] = node }, reason)
return room_reply(service_revision, birth, revision, remains)
