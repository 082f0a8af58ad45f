-- prelude.lua: the beginning of every script of Rollcall. The files are joined when the program is built.
--
-- A script is one atomic step. Nobody sees a state change without its revision, its log entry and its publication.
-- Nobody sees one of those without the state change. Redis rolls nothing back, so a script checks everything that can
-- fail before its first write.
--
-- ==== KEYS (the same for every script; names in src/store/redis/keys.rs, contents in docs/redis.md) ====
-- KEYS[1] epoch (HASH)   KEYS[2] revision (STRING)      KEYS[3] log (STREAM)
-- KEYS[4] nodes (ZSET)   KEYS[5] sweep:after (STRING)   KEYS[6] users:set (SET)   KEYS[7] nodes:asserted (ZSET)
-- KEYS[8] users:hidden (SET)
-- ==== ARGV ====
-- ARGV[1..6] beginnings of the keys that end in an id; ARGV[7] channel; ARGV[8] log length in entries;
-- ARGV[9] life of last-seen and the least stay that it is written for, ms, with a space between;
-- ARGV[10..] the script's own, described in its file
local EPOCH, REVISION, LOG, NODES, SWEEP_AFTER, USERS, ASSERTED, HIDDEN = unpack(KEYS)
local USER_SOCKETS, SOCKET_USER, PRESENCE, NODE_SOCKETS, NODE_GENERATION, LAST_SEEN = unpack(ARGV, 1, 6)
local CHANNEL, LOG_LENGTH = ARGV[7], ARGV[8]

-- `redis.call` for all scripts. If the type of a key is not the one that the command expects, somebody wrote the key by
-- hand. A key with an id in its name is deleted, and the command goes on without it. Then the owner of the lost data
-- asserts it anew, or the audit finds that it is missing. For the other keys the script fails, and the next beat begins
-- a new epoch (beat.lua). Some calls name only those other keys, or have a command that takes a key of any type (SET,
-- DEL, PEXPIRE). They go to Redis directly (`native`), because that is cheaper.
local n_deleted = 0
local native, type = redis, type
local native_pcall = native.pcall
local function is_fixed(key)
  for _, fixed in ipairs(KEYS) do
    if key == fixed then return true end
  end
  return false
end
local function call(...)
  local reply = native_pcall(...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  local _, key = ...
  if string.find(reply.err, '^WRONGTYPE') and not is_fixed(key) then
    native.log(native.LOG_WARNING, 'Rollcall: deleted ' .. key .. ', which was of another type than ours')
    native.call('DEL', key)
    n_deleted = n_deleted + 1
  end
  return native.call(...)
end
local redis = { call = call }

-- The decimal text of a whole number from 0 to 2^53. Lua's own form keeps only 14 digits. '%.0f' keeps all digits, but
-- costs 5000 instructions for a number of 16 digits: four times a join (callgrind). '%d' is only 32 bits wide on some
-- machines. So this function writes the number in two parts.
local function text(number)
  local high = math.floor(number / 100000000)
  if high == 0 then return string.format('%d', number) end
  return string.format('%d%08d', high, number - high * 100000000)
end

-- The number in a stored text. It is nil unless the number is whole and below LIMIT. LIMIT is below 2^53 and leaves
-- room for all revisions of one script.
local LIMIT = 9007199250000000
local function whole(stored)
  local number = stored and #stored <= 16 and string.find(stored, '^%d+$') and tonumber(stored)
  return number and number < LIMIT and number or nil
end

-- The only clock: Redis TIME, in ms and in us.
local time = native.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now_ms = math.floor(now_us / 1000)
local now_text = text(now_ms)

-- Why an order of a node is refused, or nil. 'EPOCH': the data is of another life. 'GENERATION': a newer connection of
-- the node has taken over. 'LEASE': the node has no live lease. Also returns the value of one more key, or nil, and the
-- revision.
local function refusal(node, epoch, generation, one_more)
  -- This reads all keys in one call. A call from Lua costs a microsecond, and every order makes these calls.
  local known = one_more and native.call('MGET', REVISION, NODE_GENERATION .. node, one_more)
    or native.call('MGET', REVISION, NODE_GENERATION .. node)
  -- A revision that is no whole number is for the beat to find. `whole` costs as much as a call, so it is not used
  -- here.
  if native.call('HGET', EPOCH, 'epoch') ~= epoch or (tonumber(known[1] or '') or LIMIT) >= LIMIT then return 'EPOCH' end
  if known[2] ~= generation then return 'GENERATION' end
  local lease_end = native.call('ZSCORE', NODES, node)
  if not lease_end or tonumber(lease_end) <= now_ms then return 'LEASE' end
  return nil, known[3] or nil, known[1]
end

-- Whether some node has beaten within the last three quarters of a lease. It is nil if no node could beat. If no node
-- has beaten, Redis was out of reach. Leases that ended meanwhile then say nothing about their nodes. A slow node
-- beats at every other beat. So half a lease would not tell a slow node from a node that is away (settings allow three
-- beats a lease). Drained nodes do not beat and do not count.
local function somebody_beats(lease_ms)
  for _, peer in ipairs(redis.call('ZREVRANGE', NODES, 0, -1)) do
    if redis.call('GET', NODE_GENERATION .. peer) ~= 'drained' then
      return tonumber(redis.call('ZSCORE', NODES, peer)) >= now_ms + lease_ms / 4
    end
  end
  return nil
end

-- Numbers, logs and publishes one transition. `user_json` is the user id as JSON. `detail` is a JSON member, e.g.
-- "reason":"left".
local function announce(epoch, kind, user_json, detail)
  local revision = text(native.call('INCR', REVISION))
  local event = '{"epoch":' .. epoch .. ',"revision":' .. revision .. ',"type":"' .. kind .. '","userId":'
    .. user_json .. ',' .. detail .. ',"at":' .. now_text .. '}'
  local logged = native_pcall('XADD', LOG, 'MAXLEN', '~', LOG_LENGTH, revision .. '-0', 'event', event)
  if type(logged) == 'table' then
    -- Somebody wrote an entry by hand, with an id above the revision. The log begins anew. A node that has missed
    -- something reads everything.
    native.call('DEL', LOG)
    native.call('XADD', LOG, revision .. '-0', 'event', event)
  end
  native.call('PUBLISH', CHANNEL, event)
  return revision
end

-- The entry of a socket in its user's hash:
-- {"grace":0,"idle":0,"since":1795312607336,"node":"ej9g50la5m0l","kind":"web","device":{...}}. The two marks come first,
-- so each has a fixed place. Nothing has to search for them among text that a client may have written. The last two
-- members are there if the client has said what it runs on.
local GRACE_AT, IDLE_AT = string.len('{"grace":0'), string.len('{"grace":0,"idle":0')
local function is_in_grace(entry) return string.sub(entry, 1, GRACE_AT) == '{"grace":1' end
local function is_idle(entry) return string.sub(entry, GRACE_AT + 1, IDLE_AT) == ',"idle":1' end
local function marked(entry, at, mark) return string.sub(entry, 1, at - 1) .. mark .. string.sub(entry, at + 1) end
local function since_of(entry) return tonumber(string.match(entry, '^{"grace":[01],"idle":[01],"since":(%d+)')) end

-- Takes one socket out of the three places that know it. Returns the time at which the socket came, in ms, or nil if
-- that time is not known.
local function remove_socket(user, socket, node)
  local entry = redis.call('HGET', USER_SOCKETS .. user, socket)
  if entry then redis.call('HDEL', USER_SOCKETS .. user, socket) end
  native.call('DEL', SOCKET_USER .. socket)
  redis.call('HDEL', NODE_SOCKETS .. node, socket)
  return entry and since_of(entry)
end

-- The earlier of two times. Each of them may be nil.
local function earlier(a, b) return a and b and math.min(a, b) or a or b end

-- Beside a node, ASSERTED has this member of the node: the time as of which its entries in rooms were asserted as well.
local AND_ROOMS = ':rooms'

-- The node that a socket id names: the part before the dot.
local function node_of(socket) return string.match(socket, '^([^.]*)') end

-- Whether a user has no socket under this key, or has a socket whose node does not exist.
local function looks_like_a_ghost(sockets_key)
  local sockets = redis.call('HKEYS', sockets_key)
  for _, socket in ipairs(sockets) do
    if not redis.call('ZSCORE', NODES, node_of(socket)) then return true end
  end
  return #sockets == 0
end
