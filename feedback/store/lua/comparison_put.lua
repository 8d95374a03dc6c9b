-- Sets the choice between two completions of one person as the vote on both.
--
-- KEYS[1]  tl:completion:{chosen}    hash    read: owner, user, version, messages, time to live
-- KEYS[2]  tl:completion:{rejected}  hash    the same
-- KEYS[3]  tl:feedback:{chosen}      hash    written, expires
-- KEYS[4]  tl:feedback:{rejected}    hash    the same
-- KEYS[5]  tl:feedback:ready         zset    ids added or removed; so in turns, waiting, expiring
-- KEYS[6]  tl:feedback:log           stream  two events 'put'
-- built    tl:version:{v}            hash    counters up, down
-- built    tl:feedback:totals        hash    counters
--
-- ARGV: chosen, rejected, owner, user, vote and score of the chosen one, of the rejected one,
-- time, time to live of the votes (ms).
-- Returns 'ok' and the two hashes, or 'unknown' with the id that the user does not have, or
-- 'prompts' when the two do not answer the same messages.

local sources = {}
for i = 1, 2 do
  sources[i] = redis.call('HMGET', KEYS[i], 'owner', 'user', 'version', 'messages')
  if sources[i][1] ~= ARGV[3] or sources[i][2] ~= ARGV[4] then return {'unknown', ARGV[i]} end
end
if sources[1][4] ~= sources[2][4] then return {'prompts'} end
local now, ttl = ARGV[9], ARGV[10]
return {
  'ok',
  set_vote(ARGV[1], sources[1], ARGV[5], ARGV[6], now, ttl),
  set_vote(ARGV[2], sources[2], ARGV[7], ARGV[8], now, ttl),
}
