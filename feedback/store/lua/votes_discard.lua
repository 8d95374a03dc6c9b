-- Discards waiting votes that are no longer worth learning from.
--
-- KEYS[1]  tl:feedback:ready   zset  ids removed; so from turns, waiting, expiring
-- built    tl:feedback:{id}    hash  state 'discarded', reason
-- built    tl:feedback:totals  hash  counters
--
-- ARGV: id, revision, reason of each vote. Returns how many were still current, and so discarded.

local discarded = 0
for i = 1, #ARGV, 3 do
  local key = feedback_key(ARGV[i])
  local vote = redis.call('HMGET', key, 'scored', 'state', 'score')
  if vote[1] == ARGV[i + 1] and vote[2] == 'pending' then
    leave_queue(ARGV[i])
    discard_vote(key, vote[3], 'pending', ARGV[i + 2])
    discarded = discarded + 1
  end
end
return discarded
