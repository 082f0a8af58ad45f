-- remain.lua: the end of leave.lua and remove.lua, for a user who has sockets left. It stands behind presence.lua.
reconsider(epoch, user, redis.call('GET', PRESENCE .. user) or nil, entries, tonumber(active_at))
return { 'OK', native.call('GET', REVISION), '1' }
