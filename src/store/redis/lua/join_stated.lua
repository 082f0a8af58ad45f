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
-- If the data was missing, nodes may know other data of a user who is there.
local is_changed = presence_json(user_json, known) ~= before
known.active_at = math.max(known.active_at, tonumber(active_at))
local is_new, moved = place(user, known, entries)
local presence = presence_json(user_json, known)
redis.call('SET', presence_key, presence, 'PX', ttl_ms)

local event = is_new and 'online' or (is_changed or moved) and 'changed' or nil
local revision = event and announce(epoch, event, user_json, '"user":' .. presence) or redis.call('GET', REVISION)
return { 'OK', revision, text(known.profile_at), text(known.chosen_at) }
