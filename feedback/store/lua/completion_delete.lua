-- Deletes a completion of its owner, and the vote on it.
--
-- KEYS[1]  tl:completion:{id}      hash    deleted
-- KEYS[2]  tl:user:{owner}:{user}  zset    id removed
-- KEYS[3]  tl:feedback:{id}        hash    deleted
-- KEYS[4]  tl:feedback:ready       zset    id removed
-- KEYS[5]  tl:feedback:log         stream  event 'deleted'
-- built    tl:version:{v}          hash    counters completions, up, down
-- built    tl:feedback:totals      hash    counters
--
-- ARGV: id, owner, user. Returns 1, or 0 when the user has no such completion.

local found = redis.call('HMGET', KEYS[1], 'owner', 'user', 'version')
if found[1] ~= ARGV[2] or found[2] ~= ARGV[3] then return 0 end
local vote = redis.call('HMGET', KEYS[3], 'state', 'score', 'version')
if vote[1] and vote[1] ~= 'withdrawn' then
  count_thumb(found[3], vote[2], -1)
  count_state(vote[2], vote[1], nil)
end
redis.call('HINCRBY', version_key(found[3]), 'completions', -1)
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[1], KEYS[3])
redis.call('XADD', KEYS[5], '*', 'event', 'deleted', 'id', ARGV[1], 'learned_by', vote[3] or '')
return 1
