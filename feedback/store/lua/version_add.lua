-- Registers a version that was not learned here, once.
--
-- KEYS[1]  tl:version:{v}     hash    written
-- KEYS[2]  tl:versions        zset    version added
-- KEYS[3]  tl:sequence        int     raised to the version's number, so that no run reuses it
-- KEYS[4]  tl:ungated        zset    a candidate added: it waits for its gate
-- built    tl:rollout:events  stream  event 'import'
--
-- ARGV: version, parent, manifest, state, time, sequence number, who, why.
-- Returns 1, or 0 when it exists.

if redis.call('HEXISTS', KEYS[1], 'state') == 1 then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[4], 'parent', ARGV[2], 'created_at', ARGV[5],
  'manifest', ARGV[3], 'changed_at', ARGV[5], 'changed_by', ARGV[7])
redis.call('ZADD', KEYS[2], ARGV[5], ARGV[1])
if tonumber(redis.call('GET', KEYS[3]) or '0') < tonumber(ARGV[6]) then
  redis.call('SET', KEYS[3], ARGV[6])
end
if ARGV[4] == 'candidate' then redis.call('ZADD', KEYS[4], ARGV[6], ARGV[1]) end
audit(ARGV[5], ARGV[7], 'import', ARGV[2], ARGV[1], ARGV[8], '{}')
return 1
