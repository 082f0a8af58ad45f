-- room_join.lua: one socket of a user is in a room. Idempotent.
--
-- ==== ARGV (own; [10..18] are those of an order, in room.lua) ====
-- [19] life of the keys, ms  [20] since when the socket is there, ms
-- ==== Reply ====
-- that of an order (room.lua)
-- ==== Why atomic ====
-- SADD decides whether the user is new there. Otherwise a leave could overtake the join between that decision and the
-- publication. And two first joins would make two births.
local node, epoch, generation, socket, user, room, ttl_ms, since = unpack(ARGV, 13, 20)

local refused, _, service_revision = refusal(node, epoch, generation)
if refused then return { refused } end

local keys = keys_of(room)
local sockets_key, users_key, head_key = keys .. 'user:socket:' .. user, keys .. 'users:set', keys .. 'head'
-- A mark that the entry has already stays: only a leave or a removal ends a grace.
local entry = '{"grace":0,"since":' .. (since < now_text and since or now_text) .. ',"node":"' .. node .. '"}'
local is_asserted_again = redis.call('HSETNX', sockets_key, socket, entry) == 0
native.call('PEXPIRE', sockets_key, ttl_ms)
redis.call('HSET', NODE_ROOMS .. node, room .. '\t' .. socket, user)

local is_new = redis.call('SADD', users_key, user) == 1
local birth, revision = head_of(keys)
local is_born = not birth
if is_born then birth, revision = new_birth(is_new and native.call('SCARD', users_key) == 1) end
if is_new then
  revision = revision + 1
  announce_in_room(keys, birth, revision, user, '"type":"entered"')
end
if is_new or is_born then native.call('HSET', head_key, 'birth', birth, 'revision', text(revision)) end
native.call('PEXPIRE', users_key, ttl_ms)
native.call('PEXPIRE', head_key, ttl_ms)
-- An owner asserts its entry again if the room was missing among the rooms.
if is_born or is_asserted_again then redis.call('SADD', ROOMS, room) end
return room_reply(service_revision, birth, revision, true)
