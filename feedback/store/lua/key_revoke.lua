-- Revokes an API key for good.
--
-- KEYS[1]  tl:key:{public id}  hash  revoked
--
-- Returns 1, or 0 when there is none.

if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'revoked', '1')
return 1
