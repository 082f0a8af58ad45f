-- departure.lua: what is done when sockets of a user went. It stands behind prelude.lua.

-- When the user of a stored presence was last active, in ms, as text. It is '0' if that is not known. It is in the last 58
-- bytes. To search all of the presence would cost more.
local function active_at_of(stored)
  return stored and string.match(string.sub(stored, -58), ',"activeAt":(%d+),"updatedAt":%d+}$') or '0'
end

-- Since when others see the user of a stored presence, in ms, if the user was hidden before. Otherwise it is nil.
local function shown_at_of(stored)
  if not stored or not string.find(stored, ',"shownAt":', 1, true) then return nil end
  return tonumber(string.match(stored, ',"shownAt":(%d+),"profileBytes":%d+,"activeAt":%d+,"updatedAt":%d+}$'))
end

-- The later of two times in ms, as text. Such times have the same number of digits. 0 says that one is not known.
local function later(a, b) return a > b and a or b end

-- The later of two times in ms. Each of them may be nil, and is then not known.
local function later_since(a, b) return a and b and math.max(a, b) or a or b end

-- Notes when others last saw the user. `since` is the time at which others began to see the user, or nil if it is not
-- known. Somebody who was there only for a moment leaves no new key behind. `active_at` is a text, '0' if it is not known.
local function remember(user, since, active_at)
  local ttl_ms, least_ms = string.match(ARGV[9], '(%d+) (%d+)')
  local seen = '{"lastSeen":' .. now_text .. (active_at ~= '0' and ',"lastActive":' .. active_at or '') .. '}'
  if not since or now_ms - since >= tonumber(least_ms) then
    native.call('SET', LAST_SEEN .. user, seen, 'PX', ttl_ms)
  else
    native.call('SET', LAST_SEEN .. user, seen, 'PX', ttl_ms, 'XX')
  end
end

-- Call this after sockets of the user were removed. `since` is the time at which the first of them came, or nil if that
-- time is not known. `active_at` is when the user was last active as far as a node knows, as text, or '0'. If the user
-- has no socket left, this makes the departure known. Returns the entries of the sockets that are left, and whether the
-- departure was a transition. If sockets are left, others may see another status: call `reconsider` (presence.lua).
local function settle(epoch, user, reason, since, active_at)
  local entries = redis.call('HVALS', USER_SOCKETS .. user)
  if #entries > 0 then
    -- The last socket may be there only for a moment. The user was there for longer. If the user is hidden, others saw
    -- the user last when the user hid.
    local stayed = since and now_ms - since >= tonumber(string.match(ARGV[9], ' (%d+)'))
    if stayed and native.call('SISMEMBER', HIDDEN, user) == 0 then
      local stored = redis.call('GET', PRESENCE .. user)
      remember(user, later_since(since, shown_at_of(stored)), later(active_at, active_at_of(stored)))
    end
    return entries, false
  end
  local was_visible = native.call('SREM', USERS, user) == 1
  if not was_visible and native.call('SREM', HIDDEN, user) == 0 then return entries, false end
  local stored = redis.call('GETDEL', PRESENCE .. user)
  active_at = later(active_at, active_at_of(stored))
  local detail = '"reason":"' .. reason .. '"' .. (active_at ~= '0' and ',"activeAt":' .. active_at or '')
  if was_visible then
    remember(user, later_since(since, shown_at_of(stored)), active_at)
  else
    detail = detail .. ',"hidden":true'
  end
  announce(epoch, 'offline', cjson.encode(user), detail)
  return entries, true
end

