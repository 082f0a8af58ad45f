-- rights.lua: which rights the user of this connection lacks, of those that a node needs. Reads and writes nothing. It stands
-- without prelude.lua and without KEYS, for both need rights themselves.
--
-- ==== ARGV ====
-- [1] channel  [2..] pairs: a key pattern as a rule of ACL SETUSER, and a key that it is to cover
-- ==== Reply ====
-- the missing rights, as rules of ACL SETUSER
-- ==== Why atomic ====
-- It need not be.
local CHANNEL = ARGV[1]

-- A server that cannot be asked is not one that refuses.
if not redis.acl_check_cmd then return {} end

-- Each call must be well formed: Redis 7.0 crashes on a command that names fewer keys than it says it does.
local function grants(...)
  -- An error is a command that the server does not have.
  local known, granted = pcall(redis.acl_check_cmd, ...)
  return known and granted
end

-- All commands of the scripts and of src/store/redis/ (tests/it/acl.rs compares them), but those without which this does not
-- run: EVALSHA, SCRIPT LOAD and INFO. First those without a key, then those with one, and what follows the key.
local PLAIN = { 'time', 'multi', 'exec' }
local WITH_KEY = {
  { 'type' }, { 'get' }, { 'set', 'v' }, { 'mget' }, { 'incr' }, { 'del' }, { 'exists' }, { 'pexpire', '1' },
  { 'hget', 'f' }, { 'hmget', 'f' }, { 'hgetall' }, { 'hset', 'f', 'v' }, { 'hsetnx', 'f', 'v' }, { 'hdel', 'f' },
  { 'hlen' }, { 'hkeys' }, { 'hrandfield' },
  { 'sadd', 'm' }, { 'srem', 'm' }, { 'sismember', 'm' }, { 'sscan', '0' },
  { 'zadd', '1', 'm' }, { 'zrem', 'm' }, { 'zscore', 'm' }, { 'zrange', '0', '-1' }, { 'zrevrange', '0', '-1' },
  { 'zrangebyscore', '0', '1' }, { 'zremrangebyscore', '0', '1' },
  { 'xadd', '*', 'f', 'v' }, { 'xrange', '-', '+' }, { 'xrevrange', '+', '-' },
}

local missing = {}
local function lacks(rule) missing[#missing + 1] = rule end
for _, command in ipairs(PLAIN) do
  if not grants(command) then lacks('+' .. command) end
end

-- A command that no key is granted to is missing, and so is a key that no command is granted on.
local granted_key, n_unknown = {}, (#ARGV - 1) / 2
local lacked = {}
for _, command in ipairs(WITH_KEY) do
  local is_granted = false
  for i = 3, #ARGV, 2 do
    if grants(command[1], ARGV[i], unpack(command, 2)) then
      is_granted = true
      if not granted_key[i] then granted_key[i], n_unknown = true, n_unknown - 1 end
    end
    -- The first command usually settles all keys; then one key is enough for each of the others.
    if is_granted and n_unknown == 0 then break end
  end
  if not is_granted then lacked[#lacked + 1] = '+' .. command[1] end
end
-- If none is granted, it is the keys that are missing.
if #lacked < #WITH_KEY then
  for _, rule in ipairs(lacked) do lacks(rule) end
end
for i = 3, #ARGV, 2 do
  if not granted_key[i] then lacks(ARGV[i - 1]) end
end

local publishes, subscribes = grants('publish', CHANNEL, ''), grants('subscribe', CHANNEL)
if not publishes and not subscribes then
  lacks('&' .. CHANNEL)
elseif not publishes then
  lacks('+publish')
elseif not subscribes then
  lacks('+subscribe')
end
return missing
