-- beat.lua: a node is alive. Begins a new epoch if the data is not this server life's, then renews or grants the lease.
--
-- ==== ARGV (own) ====
-- [10] node id  [11] generation  [12] lease, ms  [13] highest revision that the node has seen
-- ==== Reply ====
-- {'RENEWED' | 'GRANTED' | 'FENCED', epoch, revision, holdUntil in ms, now in ms, sockets held for the node}
-- FENCED: the lease ran out and a sweep has begun, or the node was drained; nothing is renewed until it is swept.
-- ==== Why atomic ====
-- Of two nodes that notice the new life at once, one begins the epoch and the other joins it.
local node, generation = ARGV[10], tonumber(ARGV[11])
local lease_ms, seen = tonumber(ARGV[12]), tonumber(ARGV[13])

-- A restart, a failover or old data restored changes run_id; FLUSHALL removes the stored one; a revision below one that was
-- seen is data of the past. Each means: what is stored is not the present.
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local revision = tonumber(redis.call('GET', REVISION) or '')
if redis.call('HGET', EPOCH, 'run_id') ~= run_id or not revision or revision < seen then
  local last = redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)[1]
  local last_logged = last and tonumber(string.match(last[1], '^%d+')) or 0
  revision = math.max(now_us, revision or 0, seen, last_logged) + 1
  local lease_end = text(now_ms + lease_ms)
  redis.call('DEL', LOG)
  redis.call('SET', REVISION, text(revision))
  redis.call('HSET', EPOCH, 'run_id', run_id, 'epoch', text(revision), 'holdUntil', lease_end)
  for _, peer in ipairs(redis.call('ZRANGE', NODES, 0, -1)) do redis.call('ZADD', NODES, lease_end, peer) end
end

-- After an outage every node gets one lease to come back. (Until the first of these beats, sweep.lua holds back by itself.)
if somebody_beats(lease_ms) == false then
  redis.call('SET', SWEEP_AFTER, text(now_ms + lease_ms), 'PX', lease_ms)
end

local lease_end = redis.call('ZSCORE', NODES, node)
local state = not lease_end and 'GRANTED' or (tonumber(lease_end) == 0 and 'FENCED' or 'RENEWED')
local stored = redis.call('GET', NODE_GENERATION .. node)
-- A drained node has ended: this beat was under way on a connection that it had given up.
if stored == 'drained' then state = 'FENCED' end
if state ~= 'FENCED' then
  redis.call('ZADD', NODES, text(now_ms + lease_ms), node)
  if not stored or tonumber(stored) < generation then
    redis.call('SET', NODE_GENERATION .. node, text(generation))
  end
end
local epoch, hold_until = unpack(redis.call('HMGET', EPOCH, 'epoch', 'holdUntil'))
return { state, epoch, text(revision), hold_until, now_text, redis.call('HLEN', NODE_SOCKETS .. node) }
