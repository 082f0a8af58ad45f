-- expire.lua: ends chosen statuses whose time has come. Idempotent.
--
-- ==== ARGV (own) ====
-- [10..] pairs: a user id, and the date of the choice that the caller knows, in ms
-- ==== Reply ====
-- how many have ended
-- ==== Why atomic ====
-- The user may choose again at the same moment. That choice must not end.
local epoch = redis.call('HGET', EPOCH, 'epoch')
if not epoch or not whole(redis.call('GET', REVISION)) then return 0 end

local n_ended = 0
for i = 10, #ARGV, 2 do
  local user, chosen_at = ARGV[i], tonumber(ARGV[i + 1])
  local user_json, stored = cjson.encode(user), redis.call('GET', PRESENCE .. user) or nil
  local known = stored and read_presence(stored, user_json)
  local entries = known and known.chosen_at == chosen_at and redis.call('HVALS', USER_SOCKETS .. user)
  if entries and not would_show_nobody(known, entries) and expire(known) then
    decide_effective(known, entries)
    write_presence(epoch, user, user_json, known, stored, entries)
    n_ended = n_ended + 1
  end
end
return n_ended
