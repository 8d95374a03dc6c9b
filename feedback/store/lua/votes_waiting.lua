-- Reads the oldest votes that no run has claimed; forgets those whose completion has expired.
--
-- KEYS[1]  tl:feedback:ready   zset  read; ids of expired votes removed
-- built    tl:feedback:{id}    hash  read
-- built    tl:completion:{id}  hash  read
-- built    tl:feedback:totals  hash  counters
--
-- ARGV: most votes. Returns lists of id, revision, score, owner, user, version, time of the vote.

local votes = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)) do
  local vote = redis.call('HMGET', feedback_key(id), 'scored', 'score', 'voted_at')
  local source = redis.call('HMGET', completion_key(id), 'owner', 'user', 'version')
  if vote[1] and source[1] then
    votes[#votes + 1] = {id, vote[1], vote[2], source[1], source[2], source[3], vote[3]}
  else
    redis.call('ZREM', KEYS[1], id)
    count_state('scored', 'pending', 'expired')
  end
end
return votes
