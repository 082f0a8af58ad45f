-- room_access.lua: what the register says of a user and a room.
--
-- ==== ARGV (own) ====
-- [10] SET of the registered rooms  [11] SET of the room's registered members  [12] room id  [13] user id
-- ==== Reply ====
-- 0: the room is not registered  1: the user is no registered member  2: the user is one
-- ==== Why atomic ====
-- It need not be atomic. It is a script because a key of another type must stop nobody (prelude.lua).
local rooms, members, room, user = unpack(ARGV, 10, 13)
if redis.call('SISMEMBER', rooms, room) == 0 then return 0 end
return 1 + redis.call('SISMEMBER', members, user)
