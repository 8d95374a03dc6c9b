-- Pauses or resumes learning.
--
-- KEYS[1]  tl:learning        string  who paused it; deleted on resume
-- built    tl:rollout:events  stream  event 'pause' or 'resume', when it changes anything
--
-- ARGV: 'pause' or 'resume', who.

local was = redis.call('EXISTS', KEYS[1]) == 1
local pause = ARGV[1] == 'pause'
if was == pause then return 0 end
if pause then redis.call('SET', KEYS[1], ARGV[2]) else redis.call('DEL', KEYS[1]) end
local names = {[true] = 'paused', [false] = 'learning'}
audit(server_time(), ARGV[2], ARGV[1], names[was], names[pause], '', '{}')
return 1
