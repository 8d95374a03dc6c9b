-- Counts one bounded piece of the feedback log.
--
-- KEYS[1]  tl:feedback:log  stream  read
--
-- ARGV: id after which to count, most entries. Returns how many there are, and the last one's id.

local entries = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
return {#entries, #entries > 0 and entries[#entries][1] or ARGV[1]}
