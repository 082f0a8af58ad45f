-- join_stated.lua: the rest of join.lua, for all other joins. It stands behind departure.lua and presence.lua.
more = more ~= '' and cjson.decode(more) or {}

local known = stored and read_presence(stored, user_json)
local before = known and presence_json(user_json, known)
if not known then
  known = new_presence()
  -- During a hold, others still see what they were told.
  if more.effective == 'away' then known.effective = 'away' end
end
expire(known)
if profile_at ~= '0' then state_profile(known, members, tonumber(profile_at)) end
if more.chosen then state_choice(known, more.chosen) end
enter(more.idle and '1' or '0', more.kind and ',"kind":"' .. more.kind .. '","device":' .. more.device or '')
local entries = redis.call('HVALS', sockets_key)
decide_effective(known, entries)
count_devices(known, entries)
local is_changed = presence_json(user_json, known) ~= (before or presence_json(user_json, new_presence()))
known.active_at = math.max(known.active_at, tonumber(active_at))
local presence = presence_json(user_json, known)
redis.call('SET', presence_key, presence, 'PX', ttl_ms)

local dates = { text(known.profile_at), text(known.chosen_at) }
local is_new, moved = place(user, known.effective == 'invisible')
if is_new then
  return { 'OK', announce(epoch, 'online', user_json, '"user":' .. presence), dates[1], dates[2] }
elseif moved and known.effective == 'invisible' then
  remember_hiding(user, entries, known.active_at)
end
if is_changed or moved then
  return { 'OK', announce(epoch, 'changed', user_json, '"user":' .. presence), dates[1], dates[2] }
end
return { 'OK', redis.call('GET', REVISION), dates[1], dates[2] }
