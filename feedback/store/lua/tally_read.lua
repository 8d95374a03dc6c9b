-- Reads tallies; the sides 'canary' and 'beside' are those of the canary that runs now.
--
-- KEYS[1]  tl:rollout               hash    read: canary, canary_since
-- built    tl:tally:votes:{name}    hash    read
-- built    tl:tally:replies:{name}  hash    read
-- built    tl:trial                 string  which canary the sides are of
--
-- ARGV: names. Returns for each the two hashes.

local rollout = redis.call('HMGET', KEYS[1], 'canary', 'canary_since')
current_trial(rollout[1], rollout[2])
local found = {}
for _, name in ipairs(ARGV) do
  found[#found + 1] = redis.call('HGETALL', tally_key('votes', name))
  found[#found + 1] = redis.call('HGETALL', tally_key('replies', name))
end
return found
