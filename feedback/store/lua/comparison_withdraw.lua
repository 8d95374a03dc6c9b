-- Withdraws a comparison from both sides; a side that has another vote by now keeps that.
--
-- KEYS[1]  tl:feedback:{chosen}  hash    read; becomes a tombstone
-- built    tl:feedback:{id}      hash    of the rejected one: the same
-- built    tl:completion:{id}    hash    read where the vote does not say whose it is
-- built    tl:feedback:ready     zset    ids removed; so from turns, waiting, expiring
-- built    tl:feedback:log       stream  events 'withdrawn'
-- built    tl:version:{v}        hash    counters up, down
-- built    tl:feedback:totals    hash    counters
--
-- ARGV: chosen, owner, user, time.
-- Returns 'ok', 'unknown' (the user has no such completion) or 'none' (nothing was chosen there).

-- Returns the id on the other side of a comparison in which the vote is on this side, if it is.
-- Only the comparison is decoded: the words of a vote may be no valid Unicode. No comment matches
-- the pattern, because quotation marks inside a text are escaped; nor does a part of an id, because
-- the keys are sorted, so that 'side', which has no such marks, follows the id.
local function other_of(vote, side)
  local text = (vote or ''):match('"comparison": ({"other": ".-", "side": "%a+"})')
  local comparison = text and cjson.decode(text) or {}
  return comparison.side == side and comparison.other or nil
end

local chosen, now = ARGV[1], ARGV[4]
local voter = voter_of(chosen)
if voter[1] ~= ARGV[2] or voter[2] ~= ARGV[3] then return 'unknown' end
local rejected = other_of(redis.call('HGET', KEYS[1], 'vote'), 'chosen')
if not rejected then return 'none' end
withdraw_vote(chosen, voter[3], now)
if other_of(redis.call('HGET', feedback_key(rejected), 'vote'), 'rejected') == chosen then
  withdraw_vote(rejected, voter_of(rejected)[3], now)
end
return 'ok'
