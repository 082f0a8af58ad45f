-- grace.lua: a socket broke. It stays registered, with a mark, until its node removes it or the user leaves.
-- Idempotent.
--
-- ==== ARGV (own) ====
-- [10] node id  [11] epoch  [12] generation  [13] socket id  [14] user id
-- ==== Reply ====
-- {'OK', revision} or {'EPOCH' | 'GENERATION' | 'LEASE'}
-- ==== Why atomic ====
-- Only a socket that is there is marked. A leave may have removed the socket, and a mark must not bring it back.
local node, epoch, generation, socket, user = unpack(ARGV, 10, 14)

local refused = refusal(node, epoch, generation)
if refused then return { refused } end

local entry = redis.call('HGET', USER_SOCKETS .. user, socket)
if entry and not is_in_grace(entry) then redis.call('HSET', USER_SOCKETS .. user, socket, marked(entry, GRACE_AT, '1')) end
return { 'OK', redis.call('GET', REVISION) }
