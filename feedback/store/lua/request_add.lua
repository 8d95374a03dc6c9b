-- Writes a request for an update.
--
-- KEYS[1]  tl:request:{id}  hash  written, expires
-- KEYS[2]  tl:requests      zset  id added
--
-- ARGV: id, who, time, time to live (ms).

redis.call('HSET', KEYS[1], 'id', ARGV[1], 'who', ARGV[2], 'asked_at', ARGV[3], 'state', 'waiting')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
return 1
