-- Writes a completion, once.
--
-- KEYS[1]  tl:completion:{id}      hash  written, expires
-- KEYS[2]  tl:user:{owner}:{user}  zset  id added, older ones than the TTL removed, expires
-- KEYS[3]  tl:version:{v}          hash  counter completions
--
-- ARGV: id, time to live (ms), time, oldest time that is kept, then field, value, ...

if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('HINCRBY', KEYS[3], 'completions', 1)
return 1
