-- Takes over the open run when its learner has fallen silent.
--
-- KEYS[1]  tl:open     string  read
-- KEYS[2]  tl:lease    string  read; set to the new fence, expires
-- KEYS[3]  tl:fence    int     raised
-- built    tl:run:{n}  hash    fence, attempts, left; deaths
--
-- ARGV: lease (ms). Returns the run's hash, or nil when there is nothing to take over.
--
-- A learner that failed or gave the run back has noted in 'left' that it went by itself; any other
-- has died. The hash comes from here, not from a later read: by then the fence in it may be that
-- of yet another learner.

local number = redis.call('GET', KEYS[1])
if not number or redis.call('EXISTS', KEYS[2]) == 1 then return nil end
local fence = redis.call('INCR', KEYS[3])
redis.call('HSET', run_key(number), 'fence', fence)
redis.call('HINCRBY', run_key(number), 'attempts', 1)
if redis.call('HDEL', run_key(number), 'left') == 0 then
  redis.call('HINCRBY', run_key(number), 'deaths', 1)
end
redis.call('SET', KEYS[2], fence, 'PX', ARGV[1])
return redis.call('HGETALL', run_key(number))
