-- Writes what a replica serves.
--
-- KEYS[1]  tl:replica:{id}  hash  written, expires
-- KEYS[2]  tl:replicas      set   id added
--
-- ARGV: id, time to live (ms), then field, value, ...

redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('SADD', KEYS[2], ARGV[1])
return 1
