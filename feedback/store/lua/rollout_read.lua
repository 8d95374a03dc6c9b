-- Reads what a command may look at: the rollout, its history, and some versions.
--
-- KEYS[1]  tl:rollout      hash    read
-- KEYS[2]  tl:learning     string  read: paused?
-- built    tl:version:{v}  hash    read: of the versions asked for, and of those in the rollout
--
-- ARGV: versions. Returns the rollout's hash, whether learning is paused, the history of a rollout
-- that an older Thumbloop wrote, and the facts of each version that there is.
--
-- There, each version remembered in 'before' what it followed.

local WALKED = 50

local rollout = redis.call('HGETALL', KEYS[1])
local fields = {}
for i = 1, #rollout, 2 do fields[rollout[i]] = rollout[i + 1] end

local walked, seen = {}, {[fields.live or 'base'] = true, [''] = true}
local version = fields.history and '' or fields.previous or ''
while not seen[version] and #walked < WALKED do
  table.insert(walked, 1, version)
  seen[version] = true
  version = redis.call('HGET', version_key(version), 'before') or ''
end

local facts, asked = {}, {}
local function read(name)
  if not name or name == '' or asked[name] then return end
  asked[name] = true
  local found = version_facts(name)
  if found then facts[#facts + 1] = found end
end
for _, name in ipairs(ARGV) do read(name) end
read(fields.live)
read(fields.previous)
read(fields.confirmed)
read(fields.canary)
return {rollout, redis.call('EXISTS', KEYS[2]), walked, facts}
