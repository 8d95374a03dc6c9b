-- Reads what a command needs: the rollout and some versions.
--
-- KEYS[1]  tl:rollout      hash    read
-- KEYS[2]  tl:learning     string  read: paused?
-- built    tl:version:{v}  hash    read: of the versions asked for, and of those in the rollout
--
-- ARGV: versions. Returns the rollout's hash, whether learning is paused, and the facts of each
-- version that there is.

local facts, asked = {}, {}
local function read(name)
  if not name or name == '' or asked[name] then return end
  asked[name] = true
  local found = version_facts(name)
  if found then facts[#facts + 1] = found end
end
for _, name in ipairs(ARGV) do read(name) end
local served = redis.call('HMGET', KEYS[1], 'live', 'previous', 'confirmed', 'canary')
for i = 1, 4 do read(served[i]) end
return {redis.call('HGETALL', KEYS[1]), redis.call('EXISTS', KEYS[2]), facts}
