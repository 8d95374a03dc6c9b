-- Commits a run: its version exists from here on. Again by the same version: nothing more happens.
--
-- KEYS[1]  tl:run:{n}          hash    state 'committed', version, report
-- KEYS[2]  tl:version:{v}      hash    written as 'candidate'
-- KEYS[3]  tl:versions         zset    version added
-- KEYS[4]  tl:lease            string  set to the fence, expires
-- built    tl:feedback:{id}    hash    state 'learned', version, where the frozen vote is current
-- built    tl:feedback:totals  hash    counters
-- built    tl:rollout:events   stream  event 'commit'
--
-- ARGV: number, fence, version, manifest, report, time, lease (ms), batch hash, parent.
-- Returns 1, or 0 when the run is no longer this learner's.
--
-- The batch and the parent are compared too: a Redis that lost its last second gives the same
-- number and the same fence out again, perhaps for another batch.

local number, fence, version, now = ARGV[1], ARGV[2], ARGV[3], ARGV[6]
local run = redis.call('HMGET', KEYS[1], 'state', 'fence', 'version', 'parent', 'batch_hash')
if run[2] ~= fence or run[5] ~= ARGV[8] or run[4] ~= ARGV[9] then return 0 end
if run[1] == 'committed' and run[3] == version then return 1 end
if run[1] ~= 'claimed' then return 0 end

redis.call('HSET', KEYS[2], 'state', 'candidate', 'parent', run[4], 'created_at', now,
  'run', number, 'manifest', ARGV[4], 'changed_at', now, 'changed_by', 'learner')
redis.call('ZADD', KEYS[3], now, version)
each_current(number, 'claimed', function(_, key, score)
  redis.call('HSET', key, 'state', 'learned', 'version', version)
  count_state(score, 'claimed', 'learned')
end)
redis.call('HSET', KEYS[1], 'state', 'committed', 'version', version, 'report', ARGV[5],
  'failures', 0)
redis.call('SET', KEYS[4], fence, 'PX', ARGV[7])
audit(now, 'learner', 'commit', run[4], version, 'run ' .. number, '{}')
return 1
