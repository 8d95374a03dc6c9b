-- Counts one bounded piece of what the record has of a user.
--
-- KEYS[1]  tl:user:{owner}:{user}  zset  read
-- built    tl:completion:{id}      hash  read
-- built    tl:feedback:{id}        hash  read
--
-- ARGV: rank of the first id, how many. Returns how many ids there were, replies (or votes that
-- outlived them), and votes that are not withdrawn.

local first, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local ids = redis.call('ZRANGE', KEYS[1], first, first + most - 1)
local replies, votes = 0, 0
for _, id in ipairs(ids) do
  if redis.call('EXISTS', completion_key(id), feedback_key(id)) > 0 then replies = replies + 1 end
  votes = votes + redis.call('HEXISTS', feedback_key(id), 'vote')
end
return {#ids, replies, votes}
