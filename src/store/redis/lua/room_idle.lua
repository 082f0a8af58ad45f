-- room_idle.lua: a room does not know whether its sockets are idle. So this order changes nothing, and is answered.
--
-- ==== ARGV (own; [10..12] are those of room.lua) ====
-- [13] node id  [14] epoch  [15] generation  [16] socket id  [17] user id  [18] room id
-- ==== Reply ====
-- {'OK', revision of the service, birth and revision of the room ('' if nobody is there), 1} or
-- {'EPOCH' | 'GENERATION' | 'LEASE'}
-- ==== Why atomic ====
-- It need not be atomic.
local node, epoch, generation, _, _, room = unpack(ARGV, 13, 18)

local refused, _, service_revision = refusal(node, epoch, generation)
if refused then return { refused } end

local birth, revision = head_of(keys_of(room))
return room_reply(service_revision, birth, revision, true)
