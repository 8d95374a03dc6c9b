-- Reads some of the votes that no run has claimed; ends the wait of those without a completion.
--
-- KEYS[1]  tl:feedback:ready   zset  read; ids of expired votes removed
-- KEYS[2]  tl:feedback:turns   zset  the same; so from waiting, expiring
-- built    tl:feedback:{id}    hash  read; of expired votes: state
-- built    tl:completion:{id}  hash  read
-- built    tl:feedback:totals  hash  counters
--
-- ARGV: the most by age, 'oldest' or 'newest' first, and the most besides them by turn.
-- Returns lists of id, revision, score, owner, user, version, time of the vote; none twice.

local votes, seen = {}, {}
local function read(ids)
  for _, id in ipairs(ids) do
    if not seen[id] then
      seen[id] = true
      local vote = redis.call('HMGET', feedback_key(id), 'scored', 'score', 'voted_at')
      local source = redis.call('HMGET', completion_key(id), 'owner', 'user', 'version')
      if vote[1] and source[1] then
        votes[#votes + 1] = {id, vote[1], vote[2], source[1], source[2], source[3], vote[3]}
      else
        expire_vote(id)
      end
    end
  end
end

local by_age, by_turn = tonumber(ARGV[1]), tonumber(ARGV[3])
local range = ARGV[2] == 'newest' and 'ZREVRANGE' or 'ZRANGE'
if by_age > 0 then read(redis.call(range, KEYS[1], 0, by_age - 1)) end
if by_turn > 0 then read(redis.call('ZRANGE', KEYS[2], 0, by_turn - 1)) end
return votes
