-- remove.lua: removes one socket alone. Its grace is over, or its node never wanted it to be there. Idempotent.
--
-- ==== ARGV (own) ====
-- [10] node id  [11] epoch  [12] generation  [13] socket id  [14] user id  [15] when the user was last active, ms, or 0
-- [16] reason
-- ==== Reply ====
-- {'OK', revision, 1 if the user is still present, else 0} or {'EPOCH' | 'GENERATION' | 'LEASE'}
-- ==== Why atomic ====
-- The reason is the same as in leave.lua.
local node, epoch, generation, socket, user = unpack(ARGV, 10, 14)
local active_at, reason = ARGV[15] < now_text and ARGV[15] or now_text, ARGV[16]

local refused = refusal(node, epoch, generation)
if refused then return { refused } end

local entries = settle(epoch, user, reason, remove_socket(user, socket, node), active_at)
if #entries == 0 then return { 'OK', native.call('GET', REVISION), '0' } end
