-- Forgets those of users' old ids of which neither the completion nor the vote is left.
--
-- KEYS     tl:user:{owner}:{user}  zset  ids removed
-- built    tl:completion:{id}      hash  read
-- built    tl:feedback:{id}        hash  read
--
-- ARGV: rank of the first id to read, how many of each user, and the last time that is old.
-- Returns how many were removed, then for each user the rank to go on with, or -1 at the end.

local first, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local found = {0}
for i, key in ipairs(KEYS) do
  local ids = redis.call('ZRANGEBYSCORE', key, '-inf', ARGV[3], 'LIMIT', first, most)
  local kept = 0
  for _, id in ipairs(ids) do
    if redis.call('EXISTS', completion_key(id), feedback_key(id)) == 0 then
      redis.call('ZREM', key, id)
    else
      kept = kept + 1
    end
  end
  found[1] = found[1] + #ids - kept
  found[i + 1] = #ids == most and first + kept or -1
end
return found
