-- Trims one bounded piece of the feedback log, up to the first entry that is still needed.
--
-- KEYS[1]  tl:feedback:log       stream  trimmed
-- KEYS[2]  tl:feedback:exported  string  read: the last entry that a finished export has
-- built    tl:feedback:{id}      hash    read: state, revision
--
-- ARGV: id below which entries may go, most entries, 1 to trim also what no export has.
-- Returns how many are gone.
--
-- Needed is every entry of a vote that waits or is claimed, and the one that made a vote what it
-- is, for as long as the vote can be read.

local function lower(a, b)
  local a_time, a_number = a:match('^(%d+)-?(%d*)$')
  local b_time, b_number = b:match('^(%d+)-?(%d*)$')
  a_time, b_time = tonumber(a_time), tonumber(b_time)
  if a_time ~= b_time then return a_time < b_time and a or b end
  return (tonumber(a_number) or 0) < (tonumber(b_number) or 0) and a or b
end

local function needed(entry)
  local event = {}
  for i = 1, #entry, 2 do event[entry[i]] = entry[i + 1] end
  local vote = redis.call('HMGET', feedback_key(event.id), 'state', 'revision')
  if vote[1] == 'pending' or vote[1] == 'claimed' then return true end
  return vote[2] and vote[2] == event.revision
end

local mark = ARGV[1]
if ARGV[3] ~= '1' then
  local exported = redis.call('GET', KEYS[2])
  if not exported then return 0 end
  mark = lower(mark, exported)
end
local last
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '(' .. mark, 'COUNT', ARGV[2])) do
  if needed(entry[2]) then break end
  last = entry[1]
end
if not last then return 0 end
local time, number = last:match('^(%d+)-(%d+)$')
local first_kept = time .. '-' .. string.format('%.0f', tonumber(number) + 1)
return redis.call('XTRIM', KEYS[1], 'MINID', '=', first_kept)
