-- beat.lua: a node is alive. If the data is not of this life of the server, the script begins a new epoch. Then it
-- renews or grants the lease.
--
-- ==== ARGV (own) ====
-- [10] node id  [11] generation  [12] lease, ms  [13] highest revision that the node has seen
-- [14] epoch in which the node has asserted the sockets that it wanted when its connection began; 0: it has not yet
-- [15] epoch in which it has asserted their entries in rooms as well; 0: it has not yet
-- [16] time of the last reply that the node heard on this connection, ms; 0: none
-- [17] since when the node waits for its peers, ms; 0: it does not wait
-- [18] the key of the node's entries in rooms
-- ==== Reply ====
-- nine members:
--   'RENEWED', 'GRANTED' or 'FENCED';
--   the epoch, and the revision;
--   '1' if the epoch is held, else '0';
--   '1' if all peers have asserted their sockets since [17], else '0';
--   '1' if they have asserted their entries in rooms as well, else '0';
--   the time now, ms;
--   how many sockets are held for the node, and how many entries in rooms.
-- FENCED: the lease ended and a sweep has begun, or the node was drained. Nothing is renewed until the node is swept.
-- ==== Why atomic ====
-- Two nodes may notice the new life at once. Then one begins the epoch and the other joins it.
local node, generation = ARGV[10], tonumber(ARGV[11])
local lease_ms, seen = tonumber(ARGV[12]), tonumber(ARGV[13])
local asserted_epoch, all_asserted_epoch = ARGV[14], ARGV[15]
local heard_ms, waits_since_ms = tonumber(ARGV[16]), tonumber(ARGV[17])

-- This check comes before the first write. A replica may be writable, and data written to a replica is lost.
local info = redis.call('INFO', 'server', 'replication')
if not string.find(info, 'role:master', 1, true) then return native.error_reply('READONLY this server is no primary') end
local run_id = string.match(info, 'run_id:(%x+)')

-- A hold waits for every node, but no longer than this. A node that never asserts must not keep departed users online
-- for ever.
local WAIT_AT_MOST_MS = 60000

local lease_ends_at = now_ms + lease_ms

-- Departures are held for at least one lease. By then all live nodes have been heard from.
local function hold_from_now()
  redis.call('HSET', EPOCH, 'holdUntil', text(lease_ends_at), 'holdLimit', text(now_ms + math.max(lease_ms, WAIT_AT_MOST_MS)))
end

-- Whether each node has asserted its sockets, at `since_ms` or later. `AND_ROOMS` asks for their entries in rooms as well.
-- Drained nodes do not count. A node whose lease has ended counts until it is swept.
local function all_have_asserted(since_ms, and_rooms)
  for _, peer in ipairs(redis.call('ZRANGE', NODES, 0, -1)) do
    local asserted_at = tonumber(redis.call('ZSCORE', ASSERTED, peer .. (and_rooms or '')) or '')
    if (not asserted_at or asserted_at < since_ms) and redis.call('GET', NODE_GENERATION .. peer) ~= 'drained' then
      return false
    end
  end
  return true
end

-- A key of another type was written by hand. So was a number that no script writes. Such a key is cleared, and the
-- epoch ends.
local is_sound = true
local types = {
  [EPOCH] = 'hash', [REVISION] = 'string', [LOG] = 'stream', [NODES] = 'zset', [SWEEP_AFTER] = 'string', [USERS] = 'set',
  [ASSERTED] = 'zset', [HIDDEN] = 'set',
}
for key, ours in pairs(types) do
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= ours then
    redis.call('DEL', key)
    is_sound = false
  end
end

-- The clock of Redis may be set back, or somebody may write a time by hand. Nothing may last longer than one lease from
-- now.
for _, peer in ipairs(redis.call('ZRANGEBYSCORE', NODES, '(' .. text(lease_ends_at), '+inf')) do
  redis.call('ZADD', NODES, text(lease_ends_at), peer)
end
redis.call('ZREMRANGEBYSCORE', ASSERTED, '(' .. now_text, '+inf')
local sweep_after = redis.call('GET', SWEEP_AFTER)
if sweep_after and (whole(sweep_after) or LIMIT) > lease_ends_at then
  redis.call('SET', SWEEP_AFTER, text(lease_ends_at), 'PX', lease_ms)
end

local revision = whole(redis.call('GET', REVISION))
local life = redis.call('HMGET', EPOCH, 'run_id', 'epoch', 'holdUntil')
local life_epoch = whole(life[2])
-- Nodes say the epoch in the text that they read, and scripts compare texts.
local is_canonical = life_epoch and text(life_epoch) == life[2]
if not (revision and is_canonical and life_epoch <= revision and whole(life[3])) then is_sound = false end

-- Only a number written by hand is above half of the range: 2^52 us are in the year 2112. No epoch begins above such a
-- number, because the epoch would find no room.
local function below_half(number) return number and number < 2 ^ 52 and number or 0 end
seen = below_half(seen)

-- A restart, a failover or restored old data changes run_id. FLUSHALL removes the stored run_id. A revision below one
-- that a node has seen is data of the past. Each case means that the stored data is not the present.
if not is_sound or life[1] ~= run_id or revision < seen then
  local last = redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)[1]
  local last_logged = last and tonumber(string.match(last[1], '^%d+'))
  revision = math.max(now_us, below_half(revision), seen, below_half(last_logged)) + 1
  redis.call('DEL', LOG, ASSERTED)
  redis.call('SET', REVISION, text(revision))
  redis.call('HSET', EPOCH, 'run_id', run_id, 'epoch', text(revision))
  hold_from_now()
  for _, peer in ipairs(redis.call('ZRANGE', NODES, 0, -1)) do redis.call('ZADD', NODES, text(lease_ends_at), peer) end
end
local epoch, hold_until = unpack(redis.call('HMGET', EPOCH, 'epoch', 'holdUntil'))
local holding = whole(hold_until) > 0

-- After an outage every node gets one lease to come back. (Until the first of these beats, sweep.lua holds back by
-- itself.)
if somebody_beats(lease_ms) == false then
  redis.call('SET', SWEEP_AFTER, text(lease_ends_at), 'PX', lease_ms)
  if holding then hold_from_now() end
end

local lease_end = redis.call('ZSCORE', NODES, node)
local state = not lease_end and 'GRANTED' or (tonumber(lease_end) == 0 and 'FENCED' or 'RENEWED')
local stored = redis.call('GET', NODE_GENERATION .. node)
-- A drained node has ended. This beat was under way on a connection that the node had given up.
if stored == 'drained' then state = 'FENCED' end
if state ~= 'FENCED' then
  redis.call('ZADD', NODES, text(lease_ends_at), node)
  if (whole(stored) or 0) < generation then
    redis.call('SET', NODE_GENERATION .. node, text(generation))
  end
  -- The date is the time of the last reply that the node heard. So a beat that a frozen connection delivers late says
  -- nothing about the time after the freeze.
  if state ~= 'RENEWED' or asserted_epoch ~= epoch then
    redis.call('ZREM', ASSERTED, node, node .. AND_ROOMS)
  elseif all_asserted_epoch ~= epoch then
    redis.call('ZREM', ASSERTED, node .. AND_ROOMS)
    redis.call('ZADD', ASSERTED, text(heard_ms), node)
  else
    redis.call('ZADD', ASSERTED, text(heard_ms), node, text(heard_ms), node .. AND_ROOMS)
  end
end

-- A hold ends only here: when its time has come and every node has asserted everything.
if holding then
  local stored_hold = redis.call('HMGET', EPOCH, 'holdUntil', 'holdLimit')
  local hold_until_ms, hold_limit_ms = whole(stored_hold[1]), whole(stored_hold[2]) or 0
  if now_ms >= hold_until_ms and (now_ms >= hold_limit_ms or all_have_asserted(0, AND_ROOMS)) then
    redis.call('HSET', EPOCH, 'holdUntil', '0')
    holding = false
  elseif hold_until_ms > lease_ends_at then
    hold_from_now()
  end
end
local peers_asserted = waits_since_ms > 0 and all_have_asserted(waits_since_ms)
local peers_all_asserted = peers_asserted and all_have_asserted(waits_since_ms, AND_ROOMS)
return {
  state, epoch, text(revision), holding and '1' or '0', peers_asserted and '1' or '0', peers_all_asserted and '1' or '0',
  now_text, redis.call('HLEN', NODE_SOCKETS .. node), redis.call('HLEN', ARGV[18])
}
