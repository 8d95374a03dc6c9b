-- Writes votes, and the completions that they are about, as an import has them; all of a piece.
--
-- KEYS[1]  tl:feedback:log         stream  event 'put' for each
-- built    tl:completion:{id}      hash    read: there?; written, expires
-- built    tl:feedback:{id}        hash    read: there?; written, expires
-- built    tl:user:{owner}:{user}  zset    id added, expires
-- built    tl:feedback:ready       zset    ids of pending votes added; so to turns, waiting, expiring
-- built    tl:version:{v}          hash    counters completions, up, down
-- built    tl:feedback:totals      hash    counters
--
-- ARGV: times to live (ms) of a completion, of a vote, of a user's ids; then of each vote: id,
-- owner, user, version that wrote the reply, time for the user's ids, how many words of the
-- completion's hash follow, those, how many of the vote's, those.
-- Returns for each 1, or 0 when the completion or the vote is there already and is left alone.
--
-- 'logged' is the vote's entry in the log: earlier ones, of before a deletion, no longer count.

local at = 4
local function take(count)
  local words = {unpack(ARGV, at, at + count - 1)}
  at = at + count
  return words
end

local function write(key, words, ttl)
  redis.call('HSET', key, unpack(words))
  redis.call('PEXPIRE', key, ttl)
end

local function restore(id, owner, user, made_by, time, reply, vote)
  if redis.call('EXISTS', completion_key(id), feedback_key(id)) > 0 then return 0 end
  if #reply > 0 then write(completion_key(id), reply, ARGV[1]) end
  write(feedback_key(id), vote, ARGV[2])
  local key = user_key(owner, user)
  redis.call('ZADD', key, time, id)
  if redis.call('PTTL', key) < tonumber(ARGV[3]) then redis.call('PEXPIRE', key, ARGV[3]) end

  local now = redis.call('HMGET', feedback_key(id),
    'score', 'state', 'voted_at', 'revision', 'updated_at')
  redis.call('HINCRBY', version_key(made_by), 'completions', 1)
  count_thumb(made_by, now[1], 1)
  tally_vote(id, owner, user, made_by, now[1])
  count_state(now[1], nil, now[2])
  if now[2] == 'pending' and now[1] ~= '' then enter_queue(id, now[3]) end
  local entry = redis.call('XADD', KEYS[1], '*', 'event', 'put', 'id', id, 'revision', now[4],
    'score', now[1], 'at', now[5], 'learned_by', '')
  redis.call('HSET', feedback_key(id), 'logged', entry)
  return 1
end

local done = {}
while at <= #ARGV do
  local id, owner, user, made_by, time = unpack(take(5))
  local reply = take(tonumber(take(1)[1]))
  local vote = take(tonumber(take(1)[1]))
  done[#done + 1] = restore(id, owner, user, made_by, time, reply, vote)
end
return done
