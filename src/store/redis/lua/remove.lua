-- remove.lua: removes one socket alone. Its grace is over, or its node never wanted it to be there. Idempotent.
--
-- ==== ARGV (own) ====
-- [10] node id  [11] epoch  [12] generation  [13] socket id  [14] user id  [15] reason
-- ==== Reply ====
-- {'OK', revision, date of the user's profile in ms} or {'EPOCH' | 'GENERATION' | 'LEASE'}; without a date if the user is gone
-- ==== Why atomic ====
-- The reason is the same as in leave.lua.
local node, epoch, generation, socket, user, reason = unpack(ARGV, 10, 15)

local refused = refusal(node, epoch, generation)
if refused then return { refused } end

settle(epoch, user, reason, remove_socket(user, socket, node))
local reply = { 'OK', redis.call('GET', REVISION) }
if redis.call('SISMEMBER', USERS, user) == 1 then reply[3] = text(updated_at_of(redis.call('GET', PRESENCE .. user))) end
return reply
