-- Reads those entries of one bounded piece of the audit that are about one version, newest first.
--
-- KEYS[1]  tl:rollout:events  stream  read
--
-- ARGV: where to begin ('+', or '(' and an entry's id), entries to read, version, most to return.
-- Returns the entries, and the id of the last one read ('' when none is left).

local found, last = {}, ''
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], ARGV[1], '-', 'COUNT', ARGV[2])) do
  local event = {}
  for i = 1, #entry[2], 2 do event[entry[2][i]] = entry[2][i + 1] end
  last = entry[1]
  if event.old == ARGV[3] or event.new == ARGV[3]
      or string.find(event.figures, ARGV[3], 1, true) then
    found[#found + 1] = entry
    if #found == tonumber(ARGV[4]) then break end
  end
end
return {found, last}
