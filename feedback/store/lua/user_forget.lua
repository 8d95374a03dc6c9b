-- Forgets those of a user's ids of which neither the completion nor the vote is left.
--
-- KEYS[1]  tl:user:{owner}:{user}  zset  ids removed
-- built    tl:completion:{id}      hash  read
-- built    tl:feedback:{id}        hash  read
--
-- ARGV: rank of the first id to look at, how many, and the last time that counts as old.
-- Returns how many were looked at, and how many were removed.

local first, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[3], 'LIMIT', first, most)
local removed = 0
for _, id in ipairs(ids) do
  if redis.call('EXISTS', completion_key(id), feedback_key(id)) == 0 then
    removed = removed + redis.call('ZREM', KEYS[1], id)
  end
end
return {#ids, removed}
