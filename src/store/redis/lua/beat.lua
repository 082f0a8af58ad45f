-- beat.lua: a node is alive. Begins a new epoch if the data is not this server life's, then renews or grants the lease.
--
-- ==== ARGV (own) ====
-- [10] node id  [11] generation  [12] lease, ms  [13] highest revision that the node has seen
-- [14] epoch in which the node has asserted everything that it wanted when its connection began; 0: it has not yet
-- [15] time of the last reply that the node heard on this connection, ms; 0: none
-- [16] since when the node waits for its peers, ms; 0: it does not wait
-- ==== Reply ====
-- {'RENEWED' | 'GRANTED' | 'FENCED', epoch, revision, holding (1 or 0), all peers have asserted since [16] (1 or 0),
-- now in ms, sockets held for the node}
-- FENCED: the lease ran out and a sweep has begun, or the node was drained; nothing is renewed until it is swept.
-- ==== Why atomic ====
-- Of two nodes that notice the new life at once, one begins the epoch and the other joins it.
local node, generation = ARGV[10], tonumber(ARGV[11])
local lease_ms, seen = tonumber(ARGV[12]), tonumber(ARGV[13])
local asserted_epoch, heard_ms, waits_since_ms = ARGV[14], tonumber(ARGV[15]), tonumber(ARGV[16])

-- A hold, and a node that was cut off, wait for every node, but no longer than this: a node that never asserts must not keep
-- the departed online for ever.
local WAIT_AT_MOST_MS = 60000

local lease_ends_at = now_ms + lease_ms

-- Departures are held for one lease at least: only then have all nodes that live been heard from.
local function hold_from_now()
  redis.call('HSET', EPOCH, 'holdUntil', text(lease_ends_at), 'holdLimit', text(now_ms + math.max(lease_ms, WAIT_AT_MOST_MS)))
end

-- Whether each node that has not drained has asserted what it holds, and heard of it since `since_ms`. A node whose lease has
-- run out counts until it is swept.
local function all_have_asserted(since_ms)
  for _, peer in ipairs(redis.call('ZRANGE', NODES, 0, -1)) do
    local asserted_at = tonumber(redis.call('ZSCORE', ASSERTED, peer) or '')
    if (not asserted_at or asserted_at < since_ms) and redis.call('GET', NODE_GENERATION .. peer) ~= 'drained' then
      return false
    end
  end
  return true
end

-- The clock of Redis may be set back. Nothing may then last longer than one lease from now.
for _, peer in ipairs(redis.call('ZRANGEBYSCORE', NODES, '(' .. text(lease_ends_at), '+inf')) do
  redis.call('ZADD', NODES, text(lease_ends_at), peer)
end
if tonumber(redis.call('GET', SWEEP_AFTER) or '0') > lease_ends_at then
  redis.call('SET', SWEEP_AFTER, text(lease_ends_at), 'PX', lease_ms)
end

-- A restart, a failover or old data restored changes run_id; FLUSHALL removes the stored one; a revision below one that was
-- seen is data of the past. Each means: what is stored is not the present.
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local revision = tonumber(redis.call('GET', REVISION) or '')
if redis.call('HGET', EPOCH, 'run_id') ~= run_id or not revision or revision < seen then
  local last = redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)[1]
  local last_logged = last and tonumber(string.match(last[1], '^%d+')) or 0
  revision = math.max(now_us, revision or 0, seen, last_logged) + 1
  redis.call('DEL', LOG, ASSERTED)
  redis.call('SET', REVISION, text(revision))
  redis.call('HSET', EPOCH, 'run_id', run_id, 'epoch', text(revision))
  hold_from_now()
  for _, peer in ipairs(redis.call('ZRANGE', NODES, 0, -1)) do redis.call('ZADD', NODES, text(lease_ends_at), peer) end
end
local epoch, hold_until_ms, hold_limit_ms = unpack(redis.call('HMGET', EPOCH, 'epoch', 'holdUntil', 'holdLimit'))
local holding = tonumber(hold_until_ms or '0') > 0

-- After an outage every node gets one lease to come back. (Until the first of these beats, sweep.lua holds back by itself.)
if somebody_beats(lease_ms) == false then
  redis.call('SET', SWEEP_AFTER, text(lease_ends_at), 'PX', lease_ms)
  if holding then hold_from_now() end
end

local lease_end = redis.call('ZSCORE', NODES, node)
local state = not lease_end and 'GRANTED' or (tonumber(lease_end) == 0 and 'FENCED' or 'RENEWED')
local stored = redis.call('GET', NODE_GENERATION .. node)
-- A drained node has ended: this beat was under way on a connection that it had given up.
if stored == 'drained' then state = 'FENCED' end
if state ~= 'FENCED' then
  redis.call('ZADD', NODES, text(lease_ends_at), node)
  if not stored or tonumber(stored) < generation then
    redis.call('SET', NODE_GENERATION .. node, text(generation))
  end
  -- Dated by what the node had heard: a beat that a frozen connection delivers late says nothing of after the frost.
  if state == 'RENEWED' and asserted_epoch == epoch then
    redis.call('ZADD', ASSERTED, text(heard_ms), node)
  else
    redis.call('ZREM', ASSERTED, node)
  end
end

-- A hold ends here and nowhere else: when its time has come and everybody has asserted.
if holding then
  hold_until_ms, hold_limit_ms = unpack(redis.call('HMGET', EPOCH, 'holdUntil', 'holdLimit'))
  if now_ms >= tonumber(hold_until_ms) and (now_ms >= tonumber(hold_limit_ms or '0') or all_have_asserted(0)) then
    redis.call('HSET', EPOCH, 'holdUntil', '0')
    holding = false
  elseif tonumber(hold_until_ms) > lease_ends_at then
    hold_from_now()
  end
end
local peers_asserted = waits_since_ms > 0
  and (now_ms - waits_since_ms >= WAIT_AT_MOST_MS or all_have_asserted(waits_since_ms))
return {
  state, epoch, text(revision), holding and '1' or '0', peers_asserted and '1' or '0', now_text,
  redis.call('HLEN', NODE_SOCKETS .. node)
}
