-- ghosts.lua: finds ghosts among some users who count as online. A user looks like a ghost if no socket of the user is
-- stored. A user with a socket looks like a ghost if the node of that socket does not exist. The script only reads. The
-- owner of a user may be about to assert the user again. So mend.lua decides a while later whether the user is a ghost.
--
-- ==== ARGV (own) ====
-- [10..] user ids
-- ==== Reply ====
-- the user ids that look like ghosts
-- ==== Why atomic ====
-- Users, sockets and nodes are compared at one moment.
local ghosts = {}
for i = 10, #ARGV do
  local n_deleted_before = n_deleted
  local is_present = redis.call('SISMEMBER', USERS, ARGV[i]) == 1 or redis.call('SISMEMBER', HIDDEN, ARGV[i]) == 1
  local is_suspect = is_present and looks_like_a_ghost(USER_SOCKETS .. ARGV[i])
  -- If the user's key was of another type, it was deleted just now. The user's node gets time to assert the user again.
  if is_suspect and n_deleted == n_deleted_before then
    ghosts[#ghosts + 1] = ARGV[i]
  end
end
return ghosts
