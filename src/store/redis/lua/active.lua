-- active.lua: notes when users who are present were last active. An earlier time changes nothing. It is no transition:
-- nodes tell one another by a signal.
--
-- ==== ARGV (own) ====
-- [10..] pairs: a user id, and when the user was last active, in ms
-- ==== Reply ====
-- how many were noted
-- ==== Why atomic ====
-- The user's data is read and written again. A statement in between would be lost.
local n_noted = 0
for i = 10, #ARGV, 2 do
  local key, active_at = PRESENCE .. ARGV[i], math.min(tonumber(ARGV[i + 1]), now_ms)
  local stored = redis.call('GET', key)
  local at, last, known_at = string.find(stored or '', ',"activeAt":(%d+),"updatedAt":%d+}$')
  if at and tonumber(known_at) < active_at then
    local rest = string.sub(stored, at + #',"activeAt":' + #known_at, last)
    redis.call('SET', key, string.sub(stored, 1, at - 1) .. ',"activeAt":' .. text(active_at) .. rest, 'KEEPTTL')
    n_noted = n_noted + 1
  end
end
return n_noted
