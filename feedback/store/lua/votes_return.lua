-- Gives back votes of versions that were rolled back: whole runs, until enough votes were read.
--
-- KEYS[1]  tl:returning        list    runs and reasons, read and removed
-- built    tl:run:{n}          hash    read
-- built    tl:feedback:{id}    hash    back to 'pending', unless it was before: 'discarded'
-- built    tl:feedback:ready   zset    ids added; so to turns, waiting, expiring
-- built    tl:feedback:totals  hash    counters
--
-- ARGV: votes after which to stop. Returns how many runs are done.

local runs, votes = 0, 0
while votes < tonumber(ARGV[1]) do
  local entry = redis.call('LPOP', KEYS[1])
  if not entry then break end
  local run, reason = string.match(entry, '^(%d+) (.*)$')
  -- What is left of a record that was lost in part has nothing to give back.
  if redis.call('HEXISTS', run_key(run), 'votes') == 1 then
    votes = votes + return_votes(run, 'learned', reason, 1)
  end
  runs = runs + 1
end
return runs
