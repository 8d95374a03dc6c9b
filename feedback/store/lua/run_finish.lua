-- Ends a committed run with the gate's verdict.
--
-- KEYS[1]  tl:run:{n}          hash    state, reason, finished_at
-- KEYS[2]  tl:lease            string  deleted
-- KEYS[3]  tl:open             string  deleted
-- built    tl:version:{v}      hash    state, reason, figures
-- built    tl:feedback:{id}    hash    on a rejection: back to 'pending' once, then 'discarded'
-- built    tl:feedback:ready   zset    on a rejection: ids added
-- built    tl:feedback:totals  hash    counters
-- built    tl:rollout:events   stream  event 'approve' or 'reject'
--
-- ARGV: number, fence, verdict ('approved' or 'rejected'), figures, reason, time.
-- Returns 1, or 0 when the run is no longer this learner's.

local number, fence, verdict, now = ARGV[1], ARGV[2], ARGV[3], ARGV[6]
local run = redis.call('HMGET', KEYS[1], 'state', 'fence', 'version', 'parent')
if run[2] ~= fence then return 0 end
if run[1] == verdict then return 1 end
if run[1] ~= 'committed' then return 0 end

redis.call('HSET', version_key(run[3]), 'state', verdict, 'figures', ARGV[4], 'reason', ARGV[5],
  'changed_at', now, 'changed_by', 'gate')
redis.call('HSET', KEYS[1], 'state', verdict, 'reason', ARGV[5], 'finished_at', now)
redis.call('DEL', KEYS[2], KEYS[3])
if verdict == 'rejected' then
  return_votes(number, 'learned', run[3] .. ' was rejected: ' .. ARGV[5])
end
audit(now, 'gate', verdict == 'approved' and 'approve' or 'reject', run[4], run[3],
  ARGV[5], ARGV[4])
return 1
