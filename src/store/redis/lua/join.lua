-- join.lua: one socket of a user is there. Idempotent.
--
-- ==== ARGV (own) ====
-- [10] node id  [11] epoch  [12] generation  [13] socket id  [14] user id
-- [15] profile: encoded JSON members, or '' to leave the stored one
-- [16] date of the profile in ms, 0 if it is stated for the first time  [17] life of the user's keys, ms
-- ==== Reply ====
-- {'OK', revision, date of the stored profile in ms} or {'EPOCH' | 'GENERATION' | 'LEASE'}
-- ==== Why atomic ====
-- SADD decides whether the user is new. If the script were not atomic, a leave could come between that decision and the
-- publication.
local node, epoch, generation, socket, user, members = unpack(ARGV, 10, 15)
local stated_at, ttl_ms = tonumber(ARGV[16]), ARGV[17]

local refused = refusal(node, epoch, generation)
if refused then return { refused } end

local sockets_key, presence_key = USER_SOCKETS .. user, PRESENCE .. user
local user_json = cjson.encode(user)
local stored = redis.call('GET', presence_key)

-- This decides which profile holds. A new statement is dated now, unless it says the same as the stored profile. An old
-- statement that is asserted again wins by its date. A presence without a profile has no date (0). It must not beat a
-- real profile that another node asserts again later.
local head = '{"id":' .. user_json .. (members ~= '' and ',' .. members or '') .. ',"status":"online","updatedAt":'
local says_the_same = stored and #stored < #head + 17 and string.sub(stored, 1, #head) == head
  and string.find(stored, '^%d+}$', #head + 1)
-- The stored presence is published as it is. So a presence that cannot be read counts as absent.
if stored and not says_the_same and not is_presence(stored) then stored = nil end
local stored_at = updated_at_of(stored)
local wins = not stored or (members ~= '' and not says_the_same and (stated_at == 0 or stated_at > stored_at))
local presence, presence_at = stored, text(stored_at)
if wins then
  presence_at = members == '' and '0' or text(stated_at > 0 and stated_at or math.max(now_ms, stored_at + 1))
  presence = head .. presence_at .. '}'
end

redis.call('HSETNX', sockets_key, socket, entry_of(node))
redis.call('PEXPIRE', sockets_key, ttl_ms)
redis.call('SET', SOCKET_USER .. socket, user, 'PX', ttl_ms)
redis.call('SET', presence_key, presence, 'PX', ttl_ms)
redis.call('HSET', NODE_SOCKETS .. node, socket, user)
if redis.call('SADD', USERS, user) == 1 then
  return { 'OK', announce(epoch, 'online', user_json, '"user":' .. presence), presence_at }
elseif wins and members ~= '' then
  -- This also holds if no presence was stored. A node may have read its snapshot while the presence was missing.
  return { 'OK', announce(epoch, 'changed', user_json, '"user":' .. presence), presence_at }
end
return { 'OK', redis.call('GET', REVISION), presence_at }
