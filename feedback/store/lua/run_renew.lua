-- Renews the lease of the learner that holds a run.
--
-- KEYS[1]  tl:run:{n}  hash    read: state, fence; set: doing
-- KEYS[2]  tl:lease    string  set to the fence, expires
--
-- ARGV: fence, lease (ms), what the learner does. Returns 1, or 0 when the run is no longer this learner's.

local run = redis.call('HMGET', KEYS[1], 'state', 'fence')
local open = run[1] == 'claimed' or run[1] == 'committed'
if not open or run[2] ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[1], 'doing', ARGV[3])
return 1
