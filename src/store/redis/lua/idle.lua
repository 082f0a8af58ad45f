-- idle.lua: marks a socket as idle, or as not idle. Idempotent.
--
-- ==== ARGV (own) ====
-- [10] node id  [11] epoch  [12] generation  [13] socket id  [14] user id  [15] when the user was last active, ms, or 0
-- [16] the mark: 1 if the socket is idle, else 0
-- ==== Reply ====
-- {'OK', revision} or {'EPOCH' | 'GENERATION' | 'LEASE'}
-- ==== Why atomic ====
-- The user is away exactly while all sockets are idle. Two sockets of two nodes may be marked at once.
local node, epoch, generation, socket, user = unpack(ARGV, 10, 14)
local active_at, mark = math.min(tonumber(ARGV[15]), now_ms), ARGV[16]

local refused, stored = refusal(node, epoch, generation, PRESENCE .. user)
if refused then return { refused } end

local sockets_key = USER_SOCKETS .. user
local entry = redis.call('HGET', sockets_key, socket)
if entry then
  if is_idle(entry) ~= (mark == '1') then redis.call('HSET', sockets_key, socket, marked(entry, IDLE_AT, mark)) end
  -- This is decided even if the mark is there already: a hold may have ended since.
  reconsider(epoch, user, stored, redis.call('HVALS', sockets_key), active_at)
end
return { 'OK', redis.call('GET', REVISION) }
