-- Gives back votes of versions that were rolled back, and takes back those of versions that serve
-- again: whole runs, until enough votes were read.
--
-- KEYS[1]  tl:returning        list    read and removed: '{run} {reason}' to give its votes back,
--                                      '+{run} {version}' to take them back
-- built    tl:run:{n}          hash    read
-- built    tl:feedback:{id}    hash    back to 'pending', unless it was before: 'discarded'; or
--                                      from 'pending' to 'learned'
-- built    tl:feedback:ready   zset    ids added or removed; so turns, waiting, expiring
-- built    tl:feedback:totals  hash    counters
--
-- ARGV: votes after which to stop. Returns how many runs are done.

local runs, votes = 0, 0
while votes < tonumber(ARGV[1]) do
  local entry = redis.call('LPOP', KEYS[1])
  if not entry then break end
  local again, run, text = string.match(entry, '^(%+?)(%d+) (.*)$')
  -- What is left of a record that was lost in part has nothing to give back.
  if redis.call('HEXISTS', run_key(run), 'votes') == 1 then
    if again == '+' then
      votes = votes + retake_votes(run, text)
    else
      votes = votes + return_votes(run, 'learned', text, 1)
    end
  end
  runs = runs + 1
end
return runs
