-- rights.lua: finds the rights that a node needs and that the user of this connection lacks. The script reads and
-- writes nothing. It has no prelude.lua and no KEYS, because both need rights themselves.
--
-- ==== ARGV ====
-- [1] number of channels  [2..] pairs: a channel pattern as a rule of ACL SETUSER, and a channel that it is to cover; then
-- pairs: a key pattern as a rule, and a key that it is to cover
-- ==== Reply ====
-- the missing rights, as rules of ACL SETUSER
-- ==== Why atomic ====
-- It need not be atomic.
local FIRST_KEY = 3 + 2 * tonumber(ARGV[1])

-- A server without this call cannot be asked. That does not mean that it refuses a right.
if not redis.acl_check_cmd then return {} end

-- Each call must be well formed. Redis 7.0 crashes on a command that names fewer keys than it says.
local function grants(...)
  -- An error says that the server does not have the command.
  local known, granted = pcall(redis.acl_check_cmd, ...)
  return known and granted
end

-- All commands of the scripts and of src/store/redis/ (tests/it/acl.rs compares them). EVALSHA, SCRIPT LOAD and INFO
-- are left out, because this script does not run without them. The commands without a key come first. The commands with
-- one key follow, each with the arguments after the key.
local PLAIN = { 'time', 'multi', 'exec', 'unsubscribe' }
local WITH_KEY = {
  { 'type' }, { 'get' }, { 'getdel' }, { 'set', 'v' }, { 'mget' }, { 'incr' }, { 'del' }, { 'exists' }, { 'pexpire', '1' },
  { 'hget', 'f' }, { 'hmget', 'f' }, { 'hgetall' }, { 'hset', 'f', 'v' }, { 'hsetnx', 'f', 'v' }, { 'hdel', 'f' },
  { 'hlen' }, { 'hkeys' }, { 'hvals' }, { 'hrandfield' },
  { 'sadd', 'm' }, { 'srem', 'm' }, { 'sismember', 'm' }, { 'scard' }, { 'sscan', '0' },
  { 'zadd', '1', 'm' }, { 'zrem', 'm' }, { 'zscore', 'm' }, { 'zrange', '0', '-1' }, { 'zrevrange', '0', '-1' },
  { 'zrangebyscore', '0', '1' }, { 'zremrangebyscore', '0', '1' },
  { 'xadd', '*', 'f', 'v' }, { 'xrange', '-', '+' }, { 'xrevrange', '+', '-' },
}

local missing = {}
local function lacks(rule) missing[#missing + 1] = rule end
for _, command in ipairs(PLAIN) do
  if not grants(command) then lacks('+' .. command) end
end

-- A command is missing if it is granted on no key. A key is missing if no command is granted on it.
local granted_key, n_unknown = {}, (#ARGV - FIRST_KEY + 2) / 2
local lacked = {}
for _, command in ipairs(WITH_KEY) do
  local is_granted = false
  for i = FIRST_KEY, #ARGV, 2 do
    if grants(command[1], ARGV[i], unpack(command, 2)) then
      is_granted = true
      if not granted_key[i] then granted_key[i], n_unknown = true, n_unknown - 1 end
    end
    -- The first command usually settles all keys. Then one key is enough for each other command.
    if is_granted and n_unknown == 0 then break end
  end
  if not is_granted then lacked[#lacked + 1] = '+' .. command[1] end
end
-- If no command is granted, only the keys are missing.
if #lacked < #WITH_KEY then
  for _, rule in ipairs(lacked) do lacks(rule) end
end
for i = FIRST_KEY, #ARGV, 2 do
  if not granted_key[i] then lacks(ARGV[i - 1]) end
end

-- The same holds for the two commands and the channels: a command that is granted on no channel is missing. A channel is
-- missing if another one is granted, or if none is.
local function channels_granting(command, ...)
  local granted, n_granted = {}, 0
  for i = 3, FIRST_KEY - 1, 2 do
    if grants(command, ARGV[i], ...) then granted[i], n_granted = true, n_granted + 1 end
  end
  return granted, n_granted
end
local may_publish, n_publish = channels_granting('publish', '')
local may_subscribe, n_subscribe = channels_granting('subscribe')
for i = 3, FIRST_KEY - 1, 2 do
  local publishes, subscribes = may_publish[i] or n_publish == 0, may_subscribe[i] or n_subscribe == 0
  if not (publishes and subscribes) or n_publish + n_subscribe == 0 then lacks(ARGV[i - 1]) end
end
if n_publish == 0 and n_subscribe > 0 then lacks('+publish') end
if n_subscribe == 0 and n_publish > 0 then lacks('+subscribe') end
return missing
