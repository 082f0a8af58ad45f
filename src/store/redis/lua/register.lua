-- register.lua: registers a room, or a member of a registered room. Idempotent.
--
-- ==== ARGV (own) ====
-- [10] SET of the registered rooms  [11] SET of the room's registered members  [12] room id
-- [13] user id; it is absent if the order is about the room
-- ==== Reply ====
-- For a room: 1 if it was not registered before, else 0.
-- For a member: 1 if the room is registered, else 0.
-- ==== Why atomic ====
-- The room may be taken out at the same moment. Then no member may stay behind.
local rooms, members, room, user = unpack(ARGV, 10, 13)
if not user then return redis.call('SADD', rooms, room) end
if redis.call('SISMEMBER', rooms, room) == 0 then return 0 end
redis.call('SADD', members, user)
return 1
