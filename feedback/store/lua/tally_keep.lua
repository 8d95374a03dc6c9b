-- Drops the tallies of versions that are compared no longer.
--
-- KEYS[1]  tl:tallies               set     versions removed
-- KEYS[2]  tl:rollout               hash    read: live, live_since, confirmed, canary, canary_since
-- KEYS[3]  tl:trial                 string  removed while there is no canary
-- built    tl:tally:votes:{name}    hash    removed
-- built    tl:tally:replies:{name}  hash    removed
--
-- ARGV: the versions to keep; those that are served now are kept too. Returns how many were dropped.

local rollout = redis.call('HMGET', KEYS[2], 'live', 'confirmed', 'canary')
local needed = {base = rollout[1] == false or rollout[2] == false or nil}
for i = 1, 3 do needed[rollout[i] or ''] = true end
for _, version in ipairs(ARGV) do needed[version] = true end

local function drop(name) redis.call('UNLINK', tally_votes_key(name), tally_replies_key(name)) end

local dropped = 0
for _, version in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if not needed[version] then
    redis.call('SREM', KEYS[1], version)
    drop(version)
    dropped = dropped + 1
  end
end
if not current_trial() then
  redis.call('DEL', KEYS[3])
  drop('canary')
  drop('control')
end
return dropped
