-- Notes how far the exports of the feedback log have come without a gap.
--
-- KEYS[1]  tl:feedback:exported  string  raised
--
-- ARGV: the entry after which an export began, and the last one that it has.
-- Returns 1 when the mark stands at that entry or later, 0 when there is a gap before the export.

local function later(a, b)
  local a_time, a_number = a:match('^(%d+)-(%d+)$')
  local b_time, b_number = b:match('^(%d+)-(%d+)$')
  a_time, b_time = tonumber(a_time), tonumber(b_time)
  if a_time ~= b_time then return a_time > b_time end
  return tonumber(a_number) > tonumber(b_number)
end

local mark = redis.call('GET', KEYS[1]) or '0-0'
if not later(ARGV[2], mark) then return 1 end
if later(ARGV[1], mark) then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
