-- Ends one attempt at a run; the last one that is allowed puts the run into quarantine.
--
-- KEYS[1]  tl:run:{n}          hash    failures, reason, fence, left; in quarantine: state, finished_at
-- KEYS[2]  tl:lease            string  deleted
-- KEYS[3]  tl:open             string  in quarantine: deleted
-- KEYS[4]  tl:fence            int     raised, so that the learner that failed writes nothing more
-- KEYS[5]  tl:resting          string  set, expires; in quarantine: left alone
-- built    tl:version:{v}      hash    in quarantine, of a committed run: 'rejected'
-- built    tl:feedback:{id}    hash    in quarantine: 'discarded', or returned unless it was before
-- built    tl:feedback:ready   zset    ids of the votes that are returned
-- built    tl:feedback:totals  hash    counters
-- built    tl:rollout:events   stream  event 'quarantine'
--
-- ARGV: number, fence, reason, most failures, time, rest (ms), return votes? (1 or 0).
-- Returns the run's state, or nil when the run is no longer this learner's.

local number, reason, now = ARGV[1], ARGV[3], ARGV[5]
local run = redis.call('HMGET', KEYS[1], 'state', 'fence', 'version', 'parent')
local state = run[1]
if (state ~= 'claimed' and state ~= 'committed') or run[2] ~= ARGV[2] then return nil end

redis.call('HSET', KEYS[1], 'reason', reason, 'fence', redis.call('INCR', KEYS[4]),
  'left', 1)
redis.call('DEL', KEYS[2])
if redis.call('HINCRBY', KEYS[1], 'failures', 1) < tonumber(ARGV[4]) then
  rest(KEYS[5], ARGV[2], ARGV[6])
  return state
end

redis.call('HSET', KEYS[1], 'state', 'quarantined', 'finished_at', now)
redis.call('DEL', KEYS[3])
local why = 'run ' .. number .. ' was quarantined: ' .. reason
if run[3] then
  redis.call('HSET', version_key(run[3]), 'state', 'rejected', 'reason', why,
    'changed_at', now, 'changed_by', 'learner')
  return_votes(number, 'learned', why, 1)
elseif ARGV[7] == '1' then
  return_votes(number, 'claimed', why, 1)
else
  each_current(number, 'claimed', function(_, key, score)
    discard_vote(key, score, 'claimed', why)
  end)
end
audit(now, 'learner', 'quarantine', run[4], run[3] or '', why, '{}')
return 'quarantined'
