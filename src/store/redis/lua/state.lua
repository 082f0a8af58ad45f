-- state.lua: somebody states something about a user who may have no socket on the caller's node. Idempotent.
--
-- ==== ARGV (own) ====
-- [10] user id  [11] profile: encoded JSON members  [12] date of the profile in ms, 0 if none is stated
-- [13] '' or the chosen status as JSON: status, at, text, expiresAt
-- [14] '' or the date of the profile that the stated one was made from, in ms
-- ==== Reply ====
-- {'OK', epoch, revision} or {'ABSENT'}; {'EPOCH'} if no node has begun an epoch; {'STALE', epoch, revision} if the
-- profile is not of that date any more: then nothing is stated
-- ==== Why atomic ====
-- The user may leave, or another node may state something else, between the reading and the writing.
local user, members, profile_at = ARGV[10], ARGV[11], tonumber(ARGV[12])
local choice = ARGV[13] ~= '' and cjson.decode(ARGV[13]) or nil

local epoch = redis.call('HGET', EPOCH, 'epoch')
if not epoch or not whole(redis.call('GET', REVISION)) then return { 'EPOCH' } end
if redis.call('SISMEMBER', USERS, user) == 0 and redis.call('SISMEMBER', HIDDEN, user) == 0 then return { 'ABSENT' } end

local user_json, stored = cjson.encode(user), redis.call('GET', PRESENCE .. user) or nil
local known = stored and read_presence(stored, user_json) or new_presence()
local entries = redis.call('HVALS', USER_SOCKETS .. user)
expire(known)
-- Whoever repeats the statement may have been heard before.
local is_repeated = known.members == members and known.profile_at > 0
if ARGV[14] ~= '' and known.profile_at ~= tonumber(ARGV[14]) and not is_repeated then
  return { 'STALE', epoch, redis.call('GET', REVISION) }
end
if profile_at > 0 then state_profile(known, members, profile_at) end
if choice then state_choice(known, choice) end
decide_effective(known, entries)
write_presence(epoch, user, user_json, known, stored, entries)
return { 'OK', epoch, redis.call('GET', REVISION) }
