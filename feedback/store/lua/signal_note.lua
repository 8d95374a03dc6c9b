-- Notes on a completion what its reader did with it; the first time of each kind stays.
--
-- KEYS[1]  tl:completion:{id}  hash  read: owner, user; field signals: kinds with their times, JSON
--
-- ARGV: owner, user, kind, time. Returns the signals, or nil when the person has no such completion.

local found = redis.call('HMGET', KEYS[1], 'owner', 'user', 'signals')
if found[1] ~= ARGV[1] or found[2] ~= ARGV[2] then return nil end
local signals = cjson.decode(found[3] or '{}')
signals[ARGV[3]] = signals[ARGV[3]] or tonumber(ARGV[4])
local text = cjson.encode(signals)
redis.call('HSET', KEYS[1], 'signals', text)
return text
