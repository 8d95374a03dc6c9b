-- Writes a request for an update.
--
-- KEYS[1]  tl:request:{id}  hash  written, expires
-- KEYS[2]  tl:requests      zset  id added
--
-- ARGV: id, time, time to live (ms), then field, value, ...

redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
return 1
