-- Notes that a version's weights were removed.
--
-- KEYS[1]  tl:version:{v}  hash    removed, where the version is registered
--
-- Returns 1, or 0 when it is not.

if redis.call('HEXISTS', KEYS[1], 'state') == 0 then return 0 end
redis.call('HSET', KEYS[1], 'removed', 1)
return 1
