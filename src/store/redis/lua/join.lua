-- join.lua: one socket of a user is there. Idempotent. join_stated.lua goes on where this ends: this part is for the many
-- users of whom nothing is known but who they are and what their profile is.
--
-- ==== ARGV (own) ====
-- [10] node id  [11] epoch  [12] generation  [13] socket id  [14] user id
-- [15] profile: encoded JSON members  [16] date of the profile in ms, 0 if none is stated: then the stored one stays
-- [17] when the user was last active, ms  [18] life of the user's keys, ms
-- [19] since when the socket is there, ms
-- [20] what is seldom there: '' or JSON with chosen {status, at, text, expiresAt} (the chosen status and its date),
--      idle (true if the socket is), effective (the status that others were told last), kind and device (of the socket;
--      device is a JSON text)
-- ==== Reply ====
-- {'OK', revision, date of the profile, date of the chosen status} or {'EPOCH' | 'GENERATION' | 'LEASE'}; dates in ms
-- ==== Why atomic ====
-- SADD decides whether the user is new. Otherwise a leave could overtake the join between that decision and the
-- publication.
local node, epoch, generation, socket, user, members, profile_at, active_at, ttl_ms, since, more = unpack(ARGV, 10, 20)

local refused, stored = refusal(node, epoch, generation, PRESENCE .. user)
if refused then return { refused } end

local sockets_key, presence_key, user_json = USER_SOCKETS .. user, PRESENCE .. user, cjson.encode(user)
-- Times in ms have the same number of digits, so their texts are compared. A number would have to be written again.
if active_at > now_text then active_at = now_text end
if since > now_text then since = now_text end

-- The socket is there. `idle` is its mark; `device` are the last members of its entry, or ''.
local function enter(idle, device)
  local entry = '{"grace":0,"idle":' .. idle .. ',"since":' .. since .. ',"node":"' .. node .. '"' .. device .. '}'
  if redis.call('HSETNX', sockets_key, socket, entry) == 0 then
    local held = redis.call('HGET', sockets_key, socket)
    if is_idle(held) ~= (idle == '1') then redis.call('HSET', sockets_key, socket, marked(held, IDLE_AT, idle)) end
  end
  native.call('PEXPIRE', sockets_key, ttl_ms)
  native.call('SET', SOCKET_USER .. socket, user, 'PX', ttl_ms)
  redis.call('HSET', NODE_SOCKETS .. node, socket, user)
end

-- Either nothing is stored, or the same profile is and nothing else.
if more == '' then
  local head = '{"id":' .. user_json .. (members ~= '' and ',' .. members or '') .. ',"status":"online","activeAt":'
  local known_at
  if not stored then
    -- A date that is too far ahead is cut (presence.lua).
    known_at = tonumber(profile_at) <= now_ms and profile_at or nil
  elseif #stored < #head + 48 and string.sub(stored, 1, #head) == head then
    local known_active_at, at = string.match(stored, '^(%d+),"updatedAt":(%d+)}$', #head + 1)
    if at and (members ~= '' or at == '0' and profile_at == '0') then
      known_at = at
      if known_active_at > active_at then active_at = known_active_at end
    end
  end
  local is_new = known_at and native.call('SADD', USERS, user) == 1
  -- If somebody deleted the data of a user who is there, the user's other sockets are to be looked at (join_stated.lua).
  if is_new or known_at and stored then
    local presence = head .. active_at .. ',"updatedAt":' .. known_at .. '}'
    enter('0', '')
    native.call('SET', presence_key, presence, 'PX', ttl_ms)
    local event = is_new and (native.call('SREM', HIDDEN, user) == 1 and 'changed' or 'online') or nil
    local revision = event and announce(epoch, event, user_json, '"user":' .. presence) or native.call('GET', REVISION)
    return { 'OK', revision, known_at, '0' }
  end
end
