-- Counts how replies went, for the versions that are counted for the judge.
--
-- KEYS[1]  tl:rollout               hash    read: live, live_since, confirmed, canary, canary_since
-- built    tl:tallies               set     a version that is served now added
-- built    tl:tally:replies:{name}  hash    counters, of versions and of the sides of the trial
-- built    tl:trial                 string  which canary the sides are of
--
-- ARGV: version, how many words follow for it, then counter and by how much of each; and so on.
-- What comes in now counts for a trial that runs: a few seconds of it may be older.

local at = 1
while at <= #ARGV do
  local last = at + 1 + ARGV[at + 1]
  for _, name in ipairs(tallies_of(ARGV[at], math.huge)) do
    for i = at + 2, last, 2 do
      redis.call('HINCRBY', tally_replies_key(name), ARGV[i], ARGV[i + 1])
    end
  end
  at = last + 1
end
