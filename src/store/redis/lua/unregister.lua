-- unregister.lua: takes a room out of the register with its members, or one member. Idempotent.
--
-- ==== ARGV (own) ====
-- [10] SET of the registered rooms  [11] SET of the room's registered members  [12] room id
-- [13] user id; it is absent if the order is about the room
-- ==== Reply ====
-- 1 if it was registered, else 0
-- ==== Why atomic ====
-- A room that is registered anew has no members of its former life.
local rooms, members, room, user = unpack(ARGV, 10, 13)
if user then return redis.call('SREM', members, user) end
native.call('DEL', members)
return redis.call('SREM', rooms, room)
