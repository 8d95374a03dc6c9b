-- Reads many hashes in one round trip.
--
-- KEYS    hash    read

local found = {}
for i, key in ipairs(KEYS) do found[i] = redis.call('HGETALL', key) end
return found
