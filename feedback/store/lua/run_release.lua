-- Gives an open run back: its learner stops before the end, and any other may go on.
--
-- KEYS[1]  tl:run:{n}   hash    read: state; fence, left, reason
-- KEYS[2]  tl:lease     string  deleted
-- KEYS[3]  tl:fence     int     raised, so that the learner that stops writes nothing more
-- KEYS[4]  tl:resting   string  set, expires, when there is a rest
--
-- ARGV: fence, rest (ms), reason ('' for none).
-- Returns 1, or 0 when the run is no longer this learner's.

local run = redis.call('HMGET', KEYS[1], 'state', 'fence')
local open = run[1] == 'claimed' or run[1] == 'committed'
if not open or run[2] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'fence', redis.call('INCR', KEYS[3]), 'left', 1)
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'reason', ARGV[3]) end
redis.call('DEL', KEYS[2])
rest(KEYS[4], ARGV[1], ARGV[2])
return 1
