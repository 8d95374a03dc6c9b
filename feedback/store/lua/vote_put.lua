-- Sets the vote of a completion's owner. The same vote again changes nothing.
--
-- KEYS[1]  tl:completion:{id}  hash    read: owner, user, version, time to live
-- KEYS[2]  tl:feedback:{id}    hash    written, expires
-- KEYS[3]  tl:feedback:ready   zset    id added or removed; so in turns, waiting, expiring
-- KEYS[4]  tl:feedback:log     stream  event 'put'
-- built    tl:version:{v}      hash    counters up, down
-- built    tl:feedback:totals  hash    counters
--
-- ARGV: id, owner, user, vote (JSON), score ('' for none), time, time to live of the vote (ms).
-- Returns the hash of the vote, or nil when the user has no such completion.

local source = redis.call('HMGET', KEYS[1], 'owner', 'user', 'version')
if source[1] ~= ARGV[2] or source[2] ~= ARGV[3] then return nil end
return set_vote(ARGV[1], source, ARGV[4], ARGV[5], ARGV[6], ARGV[7])
