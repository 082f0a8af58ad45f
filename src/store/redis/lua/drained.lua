-- drained.lua: whether a node is drained. It stands before the scripts of a goodbye. A user may have many sockets on few
-- nodes, so each node is looked up only once.
local drained = {}
local function is_drained(other)
  if drained[other] == nil then drained[other] = redis.call('GET', NODE_GENERATION .. other) == 'drained' end
  return drained[other]
end

