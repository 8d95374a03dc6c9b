-- Makes another version live: an activation, or a rollback.
--
-- KEYS[1]  tl:rollout          hash    compared, then live, previous, generation, canary, fraction
-- built    tl:version:{v}      hash    of the new one: 'live'; of the old one: its state after
-- built    tl:feedback:{id}    hash    of a version rolled back: 'pending' once, then 'discarded'
-- built    tl:feedback:ready   zset    ids of the votes that are returned
-- built    tl:feedback:totals  hash    counters
-- built    tl:rollout:events   stream  event
--
-- ARGV: version ('' for the previous one), expected live ('' for any), action, state of the old
-- version after it, who, why, figures, time, then the states that may go live.
-- Returns 'ok', or 'nothing', 'unknown', 'live' or 'state' with the version and its state.
--
-- A version remembers in 'before' what it followed, so that rollbacks walk back and do not swing
-- between two versions.

local version, expected, action, after = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local who, why, figures, now = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local rollout = redis.call('HMGET', KEYS[1], 'live', 'previous', 'canary')
local old = rollout[1] or 'base'
if expected ~= '' and expected ~= old then return {'live', old, ''} end
if version == '' then version = rollout[2] or '' end
if version == '' then return {'nothing', old, ''} end
if version == old then
  if action == 'rollback' then return {'nothing', old, ''} end
  return {'ok', old, 'live'}
end

if version ~= 'base' then
  local state = redis.call('HGET', version_key(version), 'state')
  if not state then return {'unknown', version, ''} end
  local allowed = false
  for i = 9, #ARGV do allowed = allowed or ARGV[i] == state end
  if not allowed then return {'state', version, state} end
  redis.call('HSET', version_key(version), 'state', 'live')
end
if old ~= 'base' then redis.call('HSET', version_key(old), 'state', after) end

local previous = old
if action == 'rollback' then
  previous = redis.call('HGET', version_key(version), 'before') or ''
  local run = redis.call('HGET', version_key(old), 'run')
  if run then return_votes(run, 'learned', old .. ' was rolled back: ' .. why) end
else
  redis.call('HSET', version_key(version), 'before', old)
end
redis.call('HSET', KEYS[1], 'live', version, 'previous', previous)
redis.call('HINCRBY', KEYS[1], 'generation', 1)
if rollout[3] == version then redis.call('HDEL', KEYS[1], 'canary', 'fraction') end
audit(now, who, action, old, version, why, figures)
return {'ok', version, 'live'}
