-- Ends a committed run with the gate's verdict.
--
-- KEYS[1]  tl:run:{n}          hash    state, reason, finished_at
-- KEYS[2]  tl:lease            string  deleted
-- KEYS[3]  tl:open             string  deleted
-- built    tl:version:{v}      hash    state, reason, figures; of the parent: read: state
-- built    tl:feedback:{id}    hash    on a rejection: back to 'pending' CHANCES times, then 'discarded'
-- built    tl:feedback:ready   zset    on a rejection: ids added
-- built    tl:feedback:totals  hash    counters
-- built    tl:rollout:events   stream  event 'approve' or 'reject'
--
-- ARGV: number, fence, verdict ('approved' or 'rejected'), figures, reason, time.
-- Returns the run's state, or nil when the run is no longer this learner's.

-- Each time it is learned again more cautiously, and so into another version.
local CHANCES = 3

local number, fence, verdict, now = ARGV[1], ARGV[2], ARGV[3], ARGV[6]
local reason = ARGV[5]
local run = redis.call('HMGET', KEYS[1], 'state', 'fence', 'version', 'parent')
if run[2] ~= fence then return nil end
-- Said again, because the answer got lost; it may have been turned into a rejection below.
if run[1] == verdict or run[1] == 'rejected' then return run[1] end
if run[1] ~= 'committed' then return nil end

-- What is built on a version that was rolled back goes with it, as it would had it been live by then.
-- Nobody would ever promote it, and the votes that it learned would be lost.
if verdict == 'approved' and redis.call('HGET', version_key(run[4]), 'state') == 'rolled_back' then
  verdict, reason = 'rejected', run[4] .. ', that it was learned from, was rolled back meanwhile'
end

redis.call('HSET', version_key(run[3]), 'state', verdict, 'figures', ARGV[4], 'reason', reason,
  'changed_at', now, 'changed_by', 'gate')
redis.call('HSET', KEYS[1], 'state', verdict, 'reason', reason, 'finished_at', now)
redis.call('DEL', KEYS[2], KEYS[3])
if verdict == 'rejected' then
  return_votes(number, 'learned', run[3] .. ' was rejected: ' .. reason, CHANCES)
end
audit(now, 'gate', verdict == 'approved' and 'approve' or 'reject', run[4], run[3],
  reason, ARGV[4])
return verdict
