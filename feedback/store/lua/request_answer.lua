-- Answers a request for an update, once.
--
-- KEYS[1]  tl:request:{id}  hash  state 'answered', answer, run
-- KEYS[2]  tl:requests      zset  id removed
--
-- ARGV: id, answer, run ('' for none).

redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HGET', KEYS[1], 'state') ~= 'waiting' then return 0 end
redis.call('HSET', KEYS[1], 'state', 'answered', 'answer', ARGV[2])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'run', ARGV[3]) end
return 1
