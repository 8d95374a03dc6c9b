-- Ends the wait of votes whose completions have expired: of one bounded piece of them.
--
-- KEYS[1]  tl:feedback:expiring  zset  read up to now; ids removed, or put off to when they are due
-- KEYS[2]  tl:feedback:ready     zset  its oldest read; ids removed; so from turns, waiting
-- built    tl:completion:{id}    hash  read: there?
-- built    tl:feedback:{id}      hash  state
-- built    tl:feedback:totals    hash  counters
--
-- ARGV: most votes to read in each, time. Returns how many have expired.
--
-- The oldest are read as well, for completions that went before their time: evicted, or deleted by
-- hand.

local expired = 0
local function check(id)
  local ttl = redis.call('PTTL', completion_key(id))
  if ttl == -2 then
    expire_vote(id)
    expired = expired + 1
  end
  return ttl
end

local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, ARGV[1])
for _, id in ipairs(due) do
  local ttl = check(id)
  if ttl > 0 then redis.call('ZADD', KEYS[1], ARGV[2] + ttl / 1000, id) end
  if ttl == -1 then redis.call('ZREM', KEYS[1], id) end
end
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, ARGV[1] - 1)) do check(id) end
return expired
