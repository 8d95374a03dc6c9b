-- Writes a completion, once.
--
-- KEYS[1]  tl:completion:{id}      hash  written, expires
-- KEYS[2]  tl:user:{owner}:{user}  zset  id added; expires after the last vote on a reply can have
-- KEYS[3]  tl:version:{v}          hash  counter completions: replies recorded, less those deleted
--
-- ARGV: id, time to live (ms), that of the user's ids (ms), time, then field, value, ...

if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
-- Never sooner than before: replies that were recorded under longer settings are still there.
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
redis.call('HINCRBY', KEYS[3], 'completions', 1)
return 1
