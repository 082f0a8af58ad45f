-- room.lua: what the scripts about rooms share. It stands behind prelude.lua, in those scripts alone.
--
-- A room has three kinds of keys: the SET of its members, a HASH of sockets for each member, and its head. The head has the
-- birth (the time of the room's first join, in us) and the number of the last transition. The last entry takes them all
-- along. The names of the keys are those of src/store/redis/keys.rs.
--
-- ==== ARGV ====
-- ARGV[10] beginning of a room's keys; ARGV[11] beginning of the keys of a node's entries in rooms; ARGV[12] the SET of rooms
-- in which somebody is; ARGV[13..] the script's own
--
-- ==== ARGV of an order ====
-- [13] node id  [14] epoch  [15] generation  [16] socket id  [17] user id  [18] room id  [19..] the script's own
-- ==== Reply to an order ====
-- If it is carried out, five members:
--   'OK';
--   the revision of the service;
--   the birth and the revision of the room, both '' if nobody is there;
--   '1' if the user is still there, else '0'. Only a goodbye and a removal ask.
-- Otherwise one member: 'EPOCH', 'GENERATION' or 'LEASE'.
local ROOM, NODE_ROOMS, ROOMS = unpack(ARGV, 10, 12)

-- The beginning of the keys of one room. The id ends at the next ':', so a ':' of its own is written in another way.
local function keys_of(room)
  if string.find(room, '[%%:]') then room = string.gsub(room, '[%%:]', { ['%'] = '%25', [':'] = '%3A' }) end
  return ROOM .. room .. ':'
end

-- The birth (a text) and the last revision of a room. They are nil if the room has none, or if somebody has written there
-- what no script writes.
local function head_of(keys)
  local head = redis.call('HMGET', keys .. 'head', 'birth', 'revision')
  local birth, revision = head[1], head[2]
  if not birth or not revision or #birth > 16 or #revision > 16 then return nil end
  if not string.find(birth .. ' ' .. revision, '^%d+ %d+$') or tonumber(revision) >= LIMIT then return nil end
  return birth, tonumber(revision)
end

-- A birth for a room without one, and the revision before its first transition. That is 0 if nobody was in the room. If the
-- head was lost, it is 1: then a node that knows of nobody there does not take the next transition for the first one.
local function new_birth(was_empty) return text(now_us), was_empty and 0 or 1 end

-- Takes a room in which nobody is out of the set of rooms, with its head. Returns whether nobody is there.
local function forget_if_empty(room, keys)
  if native.call('EXISTS', keys .. 'users:set') == 1 then return false end
  native.call('DEL', keys .. 'head')
  redis.call('SREM', ROOMS, room)
  return true
end

-- Publishes one transition. `detail` are JSON members.
local function announce_in_room(keys, birth, revision, user, detail)
  local event = '{"birth":' .. birth .. ',"revision":' .. text(revision) .. ',' .. detail .. ',"userId":'
    .. cjson.encode(user) .. ',"at":' .. now_text .. '}'
  native.call('PUBLISH', keys .. 'events', event)
end

-- Takes entries of one user out of a room. `nodes` has the node of each socket. If that was the user's last entry, the user
-- has left. Returns whether an entry of the user is left, and the birth and the revision of the room. The birth is nil if
-- nobody was there.
local function leave_room(room, user, nodes, reason)
  local keys = keys_of(room)
  local sockets_key, went = keys .. 'user:socket:' .. user, false
  for socket, node in pairs(nodes) do
    local was_listed = redis.call('HDEL', NODE_ROOMS .. node, room .. '\t' .. socket) == 1
    if redis.call('HDEL', sockets_key, socket) == 1 or was_listed then went = true end
  end
  local remains = native.call('EXISTS', sockets_key) == 1
  local birth, revision = head_of(keys)
  if remains then return true, birth, revision end
  -- Somebody may have deleted the member by hand, or the entry, or both. Nodes know of the member, so they are told. The entry
  -- stands in three places, and goes from all at once. So an order that is late, or comes again, finds it in none.
  if redis.call('SREM', keys .. 'users:set', user) == 0 and not went then
    -- The keys of the room may have expired in an outage. The set of rooms does not expire.
    forget_if_empty(room, keys)
    return false, birth, revision
  end
  local is_lost = not birth
  if is_lost then birth, revision = new_birth(false) end
  revision = revision + 1
  announce_in_room(keys, birth, revision, user, '"type":"left","reason":"' .. reason .. '"')
  if forget_if_empty(room, keys) then return false, birth, revision end
  -- A head that was lost is for a join to make: only joins know how long it lives. Its owners find that it is missing.
  if is_lost then
    native.call('DEL', keys .. 'head')
  else
    native.call('HSET', keys .. 'head', 'revision', text(revision))
  end
  return false, birth, revision
end

-- The reply to an order that is carried out.
local function room_reply(service_revision, birth, revision, remains)
  return { 'OK', service_revision, birth or '', revision and text(revision) or '', remains and '1' or '0' }
end

