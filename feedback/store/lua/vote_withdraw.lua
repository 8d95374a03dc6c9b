-- Withdraws the vote of a completion's owner, also one that outlived its completion.
--
-- KEYS[1]  tl:completion:{id}  hash    read where the vote does not say whose it is
-- KEYS[2]  tl:feedback:{id}    hash    becomes a tombstone
-- KEYS[3]  tl:feedback:ready   zset    id removed; so from turns, waiting, expiring
-- KEYS[4]  tl:feedback:log     stream  event 'withdrawn', with the version that learned the vote
-- built    tl:version:{v}      hash    counters up, down
-- built    tl:feedback:totals  hash    counters
--
-- ARGV: id, owner, user, time.
-- Returns 'ok', 'unknown' (the user has no such completion) or 'none' (it has no vote).

local voter = voter_of(ARGV[1])
if voter[1] ~= ARGV[2] or voter[2] ~= ARGV[3] then return 'unknown' end
local state = redis.call('HGET', KEYS[2], 'state')
if not state or state == 'withdrawn' then return 'none' end
withdraw_vote(ARGV[1], voter[3], ARGV[4])
return 'ok'
