-- Writes an API key, once.
--
-- KEYS[1]  tl:key:{public id}  hash  written
-- KEYS[2]  tl:keys             set   public id added
--
-- ARGV: public id, then field, value, ... Returns 1, or 0 when the public id is taken.

if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('SADD', KEYS[2], ARGV[1])
return 1
