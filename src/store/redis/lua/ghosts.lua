-- ghosts.lua: of some users who count as online, those who look like ghosts: no socket of theirs is stored, or one is whose
-- node does not exist. Reads only; whether they are ghosts is for mend.lua, a while later: their owner may be about to
-- assert them again.
--
-- ==== ARGV (own) ====
-- [10..] user ids
-- ==== Reply ====
-- the user ids that look like ghosts
-- ==== Why atomic ====
-- Users, sockets and nodes are compared as of one moment.
local ghosts = {}
for i = 10, #ARGV do
  local n_deleted_before = n_deleted
  local is_suspect = redis.call('SISMEMBER', USERS, ARGV[i]) == 1 and looks_like_a_ghost(ARGV[i])
  -- Whose key was of another type has lost it in this moment: their node is given time to assert them again.
  if is_suspect and n_deleted == n_deleted_before then
    ghosts[#ghosts + 1] = ARGV[i]
  end
end
return ghosts
