-- Sets the vote of a completion's owner. The same vote again changes nothing.
--
-- KEYS[1]  tl:completion:{id}  hash    read: owner, user, version, time to live
-- KEYS[2]  tl:feedback:{id}    hash    written, expires with the completion
-- KEYS[3]  tl:feedback:ready   zset    id added, or removed when there is nothing to learn
-- KEYS[4]  tl:feedback:log     stream  event 'put'
-- built    tl:version:{v}      hash    counters up, down
-- built    tl:feedback:totals  hash    counters
--
-- ARGV: id, owner, user, vote (JSON), score ('' for none), time.
-- Returns the hash of the vote, or nil when the user has no such completion.
--
-- 'revision' rises with every change, 'scored' remembers the revision that last changed the score.
-- Only the score is learned from, so a vote whose comment changes keeps its state and its place.

local id, score, now = ARGV[1], ARGV[5], ARGV[6]
local found = redis.call('HMGET', KEYS[1], 'owner', 'user', 'version')
if found[1] ~= ARGV[2] or found[2] ~= ARGV[3] then return nil end

local old = redis.call('HMGET', KEYS[2], 'vote', 'score', 'state', 'revision')
local same_score = old[3] and old[3] ~= 'withdrawn' and old[2] == score
if same_score and old[1] == ARGV[4] then return redis.call('HGETALL', KEYS[2]) end

local revision = (tonumber(old[4]) or 0) + 1
redis.call('HSET', KEYS[2], 'vote', ARGV[4], 'revision', revision, 'updated_at', now)
if not same_score then
  redis.call('HDEL', KEYS[2], 'version', 'reason', 'run', 'returned')
  redis.call('HSET', KEYS[2],
    'score', score, 'scored', revision, 'state', 'pending', 'voted_at', now)
  if old[3] and old[3] ~= 'withdrawn' then
    count_thumb(found[3], old[2], -1)
    count_state(old[2], old[3], nil)
  end
  count_thumb(found[3], score, 1)
  count_state(score, nil, 'pending')
  if score == '' then redis.call('ZREM', KEYS[3], id) else redis.call('ZADD', KEYS[3], now, id) end
end
local ttl = redis.call('PTTL', KEYS[1])
if ttl > 0 then redis.call('PEXPIRE', KEYS[2], ttl) end
redis.call('XADD', KEYS[4], '*',
  'event', 'put', 'id', id, 'revision', revision, 'score', score, 'at', now)
return redis.call('HGETALL', KEYS[2])
