-- presence.lua: a user's stored data. It stands before the scripts that take such data apart, or in their middle: what is
-- common is done before it. Each function here costs every call of a script some instructions, used or not.
--
-- The data is one JSON object. It has one of two forms. The second one is for a user who has chosen a status, who is not
-- simply online, or whose sockets have devices:
--
--   {"id":"7", PROFILE "status":"online","activeAt":A,"updatedAt":U}
--   {"id":"7", PROFILE "status":"busy","statusText":"...","chosen":{"status":"busy","at":C,"expiresAt":E},
--    "devices":{"web":1},"shownAt":S,"profileBytes":N,"activeAt":A,"updatedAt":U}
--
-- PROFILE are the members that the client stated. They may have any text in them, so nothing is searched there: what is
-- ours comes behind them, and is read from the end. N is their length. U is the date of the profile, 0 without a profile.
-- S is there if the user was hidden before: since then others see the user.

local STATUSES = { online = true, away = true, busy = true, dnd = true, invisible = true }

-- Whether a decoded value is a time in ms, or is not there.
local function is_time(value)
  return value == nil or type(value) == 'number' and value >= 0 and value < LIMIT and value == math.floor(value)
end

-- Whether the decoded members that are ours are as a script writes them. Somebody may have written them by hand.
local function are_ours(ours)
  local chosen, devices = ours.chosen, ours.devices
  if not STATUSES[ours.status] or not is_time(ours.shownAt) then return false end
  if ours.statusText ~= nil and type(ours.statusText) ~= 'string' then return false end
  if chosen ~= nil then
    if type(chosen) ~= 'table' or not STATUSES[chosen.status] or chosen.at == nil then return false end
    if not is_time(chosen.at) or not is_time(chosen.expiresAt) then return false end
  end
  if devices == nil then return true end
  if type(devices) ~= 'table' then return false end
  for kind, n_sockets in pairs(devices) do
    if type(kind) ~= 'string' or not is_time(n_sockets) then return false end
  end
  return true
end

-- The JSON of numbers of sockets by kind of device, or nil if there are none. The kinds are in order, so that the same
-- devices are the same text.
local function devices_json(counts)
  local kinds = {}
  for kind in pairs(counts or {}) do kinds[#kinds + 1] = kind end
  if #kinds == 0 then return nil end
  table.sort(kinds)
  for i, kind in ipairs(kinds) do kinds[i] = '"' .. kind .. '":' .. counts[kind] end
  return '{' .. table.concat(kinds, ',') .. '}'
end

-- What is ours of a presence, as a table: members, profile_at, chosen (a name or nil), chosen_at, text, expires_at,
-- effective, devices (a JSON object or nil), shown_at, active_at. It is nil for a text that no script has written.
local function read_presence(stored, user_json)
  local head = '{"id":' .. user_json
  if string.sub(stored, 1, #head) ~= head then return nil end
  local tail_at, _, active_at, profile_at = string.find(stored, ',"activeAt":(%d+),"updatedAt":(%d+)}$')
  if not tail_at or #active_at > 16 or #profile_at > 16 then return nil end
  local known = {
    active_at = tonumber(active_at), profile_at = tonumber(profile_at), chosen_at = 0, effective = 'online',
  }
  local ours_at
  local length = string.match(string.sub(stored, 1, tail_at - 1), ',"profileBytes":(%d+)$')
  if length then
    ours_at = #head + 1 + (length == '0' and 0 or tonumber(length) + 1)
    local is_json, ours = pcall(cjson.decode, '{' .. string.sub(stored, ours_at + 1, tail_at - 1) .. '}')
    if not is_json or string.sub(stored, ours_at, ours_at + 9) ~= ',"status":' or not are_ours(ours) then return nil end
    known.effective, known.text, known.shown_at = ours.status, ours.statusText, ours.shownAt
    if ours.chosen then
      known.chosen, known.chosen_at, known.expires_at = ours.chosen.status, ours.chosen.at, ours.chosen.expiresAt
    end
    known.devices = devices_json(ours.devices)
  else
    ours_at = tail_at - #',"status":"online"'
    if string.sub(stored, ours_at, tail_at - 1) ~= ',"status":"online"' then return nil end
  end
  known.members = string.sub(stored, #head + 2, ours_at - 1)
  -- The members are published as they are.
  if known.members ~= '' and not pcall(cjson.decode, '{' .. known.members .. '}') then return nil end
  return known
end

-- The data of somebody of whom nothing is stored.
local function new_presence()
  return { members = '', profile_at = 0, chosen_at = 0, effective = 'online', active_at = 0 }
end

local function presence_json(user_json, known)
  local ours = ',"status":"' .. known.effective .. '"'
  if known.chosen or known.effective ~= 'online' or known.devices or known.shown_at then
    if known.text then ours = ours .. ',"statusText":' .. cjson.encode(known.text) end
    if known.chosen then
      local expires_at = known.expires_at and ',"expiresAt":' .. text(known.expires_at) or ''
      ours = ours .. ',"chosen":{"status":"' .. known.chosen .. '","at":' .. text(known.chosen_at) .. expires_at .. '}'
    end
    if known.devices then ours = ours .. ',"devices":' .. known.devices end
    if known.shown_at then ours = ours .. ',"shownAt":' .. text(known.shown_at) end
    ours = ours .. ',"profileBytes":' .. #known.members
  end
  return '{"id":' .. user_json .. (known.members ~= '' and ',' .. known.members or '') .. ours
    .. ',"activeAt":' .. text(known.active_at) .. ',"updatedAt":' .. text(known.profile_at) .. '}'
end

-- Nodes date statements, by the time that the store last told them. A date that is more than a second ahead of the clock
-- and of the stored date is cut. Otherwise a node whose time is wrong could make a statement that nobody can change.
local function cut(date, stored_at) return math.min(date, math.max(now_ms, stored_at) + 1000) end

-- Of two profiles the one with the higher date holds. Returns whether that is another profile than the one before. A
-- date of 0 says that no profile is stated.
local function state_profile(known, members, date)
  date = cut(date, known.profile_at)
  if date <= known.profile_at or (members == known.members and known.profile_at > 0) then return false end
  known.members, known.profile_at = members, date
  return true
end

-- Ends a chosen status whose time has come. It keeps its date: an older choice does not come back, and a choice that was
-- made before the end still holds if it comes after the end.
local function expire(known)
  if not known.expires_at or known.expires_at > now_ms then return false end
  known.chosen, known.text, known.expires_at = 'online', nil, nil
  return true
end

-- Of two choices the one with the higher date holds, also if it says the same. Otherwise a choice between the two could
-- come late, and hold. `choice` has status, at, text and expiresAt.
local function state_choice(known, choice)
  local date = cut(choice.at, known.chosen_at)
  if date <= known.chosen_at then return end
  known.chosen, known.chosen_at = choice.status, date
  known.text, known.expires_at = choice.text, choice.expiresAt
  expire(known)
end

-- Until a hold ends, not every node has asserted which of its sockets are not idle.
local function is_holding() return (whole(redis.call('HGET', EPOCH, 'holdUntil')) or 0) > 0 end

-- Decides what others see of a user with these sockets.
local function decide_effective(known, entries)
  if known.chosen and known.chosen ~= 'online' then
    known.effective = known.chosen
    return
  end
  local all_idle = #entries > 0
  for _, entry in ipairs(entries) do
    if not is_idle(entry) then all_idle = false end
  end
  if not all_idle then
    known.effective = 'online'
  elseif known.effective ~= 'online' or not is_holding() then
    known.effective = 'away'
  end
end

-- Counts the kinds of device of a user's sockets.
local function count_devices(known, entries)
  local counts = {}
  for _, entry in ipairs(entries) do
    local kind = string.match(entry, '^{"grace":[01],"idle":[01],"since":%d+,"node":"%w+","kind":"([%w_-]+)"')
    if kind then counts[kind] = (counts[kind] or 0) + 1 end
  end
  known.devices = devices_json(counts)
end

-- Puts the user among the visible or the hidden users. Returns whether the user was in neither, and whether the user was
-- in the other. For others, hiding is going. So the time of it is noted, and stays until the user is seen again.
-- `entries` are those of the user's sockets.
local function place(user, known, entries)
  local hides = known.effective == 'invisible'
  local to, from = USERS, HIDDEN
  if hides then to, from = HIDDEN, USERS end
  if redis.call('SADD', to, user) == 0 then return false, false end
  local moved = redis.call('SREM', from, user) == 1
  if moved and hides then
    local since
    for _, entry in ipairs(entries) do since = earlier(since, since_of(entry)) end
    remember(user, later_since(since, known.shown_at), text(known.active_at))
  end
  known.shown_at = moved and not hides and now_ms or not hides and known.shown_at or nil
  return not moved, moved
end

-- Whether a hidden user would be shown although nobody is there: the connections of all sockets broke.
local function would_show_nobody(known, entries)
  if known.chosen ~= 'invisible' then return false end
  for _, entry in ipairs(entries) do
    if not is_in_grace(entry) then return false end
  end
  return true
end

-- Stores what is known of a present user, and announces it if it is another than before.
local function write_presence(epoch, user, user_json, known, before, entries)
  if presence_json(user_json, known) == before then return end
  place(user, known, entries)
  local presence = presence_json(user_json, known)
  redis.call('SET', PRESENCE .. user, presence, 'KEEPTTL')
  announce(epoch, 'changed', user_json, '"user":' .. presence)
end

-- Call this when sockets of a present user went, or are marked in another way: others may see another status, or other
-- devices.
local function reconsider(epoch, user, stored, entries, active_at)
  local user_json = cjson.encode(user)
  local known = stored and read_presence(stored, user_json)
  if not known then return end
  if not would_show_nobody(known, entries) then expire(known) end
  decide_effective(known, entries)
  count_devices(known, entries)
  if presence_json(user_json, known) == stored then return end
  known.active_at = math.max(known.active_at, active_at)
  write_presence(epoch, user, user_json, known, stored, entries)
end

