-- Searches one bounded piece of the run ledger, newest first, for runs that learned from a vote.
--
-- KEYS[1]  tl:runs     zset  read
-- built    tl:run:{n}  hash  read
--
-- ARGV: number to begin below ('+inf' for the newest), runs to read, the completion's id in JSON,
-- the time before which no run can have had it.
-- Returns the numbers found, and the number read last ('' when none is left).

local max = ARGV[1] == '+inf' and ARGV[1] or '(' .. ARGV[1]
local numbers = redis.call('ZREVRANGEBYSCORE', KEYS[1], max, '-inf', 'LIMIT', 0, ARGV[2])
local found, last = {}, ''
for _, number in ipairs(numbers) do
  local run = redis.call('HMGET', run_key(number), 'claimed_at', 'votes', 'report')
  if (tonumber(run[1] or '') or 0) < tonumber(ARGV[4]) then return {found, ''} end
  if string.find(run[2] or '', ARGV[3], 1, true) or string.find(run[3] or '', ARGV[3], 1, true) then
    found[#found + 1] = number
  end
  last = number
end
if #numbers < tonumber(ARGV[2]) then last = '' end
return {found, last}
