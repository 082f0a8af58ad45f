-- forget.lua: the presence of a user cannot be read, so it goes. The user's node finds that it is missing, and asserts
-- it anew.
--
-- ==== ARGV (own) ====
-- [10] user id  [11] the presence as it was read, '' if there was none: GET clears a key of another type (prelude.lua)
-- ==== Reply ====
-- 1 if it went, else 0
-- ==== Why atomic ====
-- A join may have written a good presence since.
local user, unreadable = ARGV[10], ARGV[11]

if redis.call('GET', PRESENCE .. user) ~= unreadable then return 0 end
return redis.call('DEL', PRESENCE .. user)
