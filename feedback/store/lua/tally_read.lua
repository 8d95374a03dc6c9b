-- Reads tallies; the sides 'canary' and 'control' are those of the canary that runs now.
--
-- built    tl:rollout               hash    read: live, live_since, canary, canary_since
-- built    tl:tally:votes:{name}    hash    read
-- built    tl:tally:replies:{name}  hash    read
-- built    tl:trial                 string  which canary the sides are of
--
-- ARGV: names. Returns for each the two hashes.

current_trial()
local found = {}
for _, name in ipairs(ARGV) do
  found[#found + 1] = redis.call('HGETALL', tally_votes_key(name))
  found[#found + 1] = redis.call('HGETALL', tally_replies_key(name))
end
return found
