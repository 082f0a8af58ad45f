-- room_grace.lua: a socket in a room broke. Its entry stays, with a mark, until its node removes it or the user leaves.
-- Idempotent.
--
-- ==== ARGV (own; [10..18] are those of an order, in room.lua) ====
-- none
-- ==== Reply ====
-- that of an order (room.lua)
-- ==== Why atomic ====
-- Only an entry that is there is marked. A leave may have removed it, and a mark must not bring it back.
local node, epoch, generation, socket, user, room = unpack(ARGV, 13, 18)

local refused, _, service_revision = refusal(node, epoch, generation)
if refused then return { refused } end

local keys = keys_of(room)
local sockets_key = keys .. 'user:socket:' .. user
local entry = redis.call('HGET', sockets_key, socket)
if entry and not is_in_grace(entry) then redis.call('HSET', sockets_key, socket, marked(entry, GRACE_AT, '1')) end
local birth, revision = head_of(keys)
return room_reply(service_revision, birth, revision, true)
