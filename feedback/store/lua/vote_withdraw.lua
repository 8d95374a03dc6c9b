-- Withdraws the vote of a completion's owner. A tombstone stays, so that revisions never repeat.
--
-- KEYS[1]  tl:completion:{id}  hash    read: owner, user, version
-- KEYS[2]  tl:feedback:{id}    hash    becomes a tombstone
-- KEYS[3]  tl:feedback:ready   zset    id removed
-- KEYS[4]  tl:feedback:log     stream  event 'withdrawn', with the version that learned the vote
-- built    tl:version:{v}      hash    counters up, down
-- built    tl:feedback:totals  hash    counters
--
-- ARGV: id, owner, user, time.
-- Returns 'ok', 'unknown' (the user has no such completion) or 'none' (it has no vote).

local found = redis.call('HMGET', KEYS[1], 'owner', 'user', 'version')
if found[1] ~= ARGV[2] or found[2] ~= ARGV[3] then return 'unknown' end
local old = redis.call('HMGET', KEYS[2], 'state', 'score', 'revision', 'version')
if not old[1] or old[1] == 'withdrawn' then return 'none' end

count_thumb(found[3], old[2], -1)
count_state(old[2], old[1], nil)
local revision = tonumber(old[3]) + 1
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HDEL', KEYS[2], 'vote', 'score', 'version', 'reason', 'run', 'returned', 'voted_at')
redis.call('HSET', KEYS[2],
  'state', 'withdrawn', 'revision', revision, 'updated_at', ARGV[4])
redis.call('XADD', KEYS[4], '*', 'event', 'withdrawn', 'id', ARGV[1], 'revision', revision,
  'at', ARGV[4], 'learned_by', old[4] or '')
return 'ok'
