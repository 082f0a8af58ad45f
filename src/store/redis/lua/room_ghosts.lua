-- room_ghosts.lua: finds ghosts among the members of some rooms, as ghosts.lua does among users. It changes nothing for
-- them, because room_mend.lua decides a while later. But a room in which nobody is goes out of the set of rooms.
--
-- ==== ARGV (own; [10..12] are those of room.lua) ====
-- [13] members of each room at most, about  [14..] pairs: a room id, and a cursor of SSCAN
-- ==== Reply ====
-- for each room three members:
--   the next cursor, '0' after the last page;
--   how many members the page had;
--   the ids of those who look like ghosts.
-- ==== Why atomic ====
-- Members, entries and nodes are compared at one moment.
local limit = ARGV[13]

local function ghosts_in(keys, cursor)
  local page = redis.call('SSCAN', keys .. 'users:set', cursor, 'COUNT', limit)
  local ghosts = {}
  for _, user in ipairs(page[2]) do
    local n_deleted_before = n_deleted
    local is_suspect = looks_like_a_ghost(keys .. 'user:socket:' .. user)
    -- If the member's key was of another type, it was deleted just now. The node gets time to assert the entry again.
    if is_suspect and n_deleted == n_deleted_before then ghosts[#ghosts + 1] = user end
  end
  return { page[1], #page[2], ghosts }
end

local found = {}
for i = 14, #ARGV, 2 do
  local room, keys = ARGV[i], keys_of(ARGV[i])
  found[#found + 1] = ghosts_in(keys, ARGV[i + 1])
  -- A head that cannot be read goes, so that the owners of the entries find that it is missing.
  if not head_of(keys) then native.call('DEL', keys .. 'head') end
  forget_if_empty(room, keys)
end
return found
