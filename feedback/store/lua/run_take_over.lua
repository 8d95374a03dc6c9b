-- Takes over the open run when its learner has fallen silent.
--
-- KEYS[1]  tl:open     string  read
-- KEYS[2]  tl:lease    string  read; set to the new fence, expires
-- KEYS[3]  tl:fence    int     raised
-- built    tl:run:{n}  hash    fence, attempts, taken_at
--
-- ARGV: lease (ms), time. Returns the run's number, or nil when there is nothing to take over.

local number = redis.call('GET', KEYS[1])
if not number or redis.call('EXISTS', KEYS[2]) == 1 then return nil end
local fence = redis.call('INCR', KEYS[3])
redis.call('HSET', run_key(number), 'fence', fence, 'taken_at', ARGV[2])
redis.call('HINCRBY', run_key(number), 'attempts', 1)
redis.call('SET', KEYS[2], fence, 'PX', ARGV[1])
return tonumber(number)
