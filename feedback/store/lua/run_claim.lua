-- Claims a batch: freezes those of the chosen votes that are still current into a new run.
--
-- KEYS[1]  tl:learning         string  read: paused?
-- KEYS[2]  tl:lease            string  read; set to the fence, expires
-- KEYS[3]  tl:open             string  read; set to the run's number
-- KEYS[4]  tl:rollout          hash    read: live
-- KEYS[5]  tl:feedback:ready   zset    ids of the batch removed; so from turns, waiting, expiring
-- KEYS[6]  tl:fence            int     raised
-- KEYS[7]  tl:sequence         int     raised: the run's number
-- KEYS[8]  tl:runs             zset    number added
-- KEYS[9]  tl:returning        list    read: whether votes are still on their way to or from a run
-- built    tl:completion:{id}  hash    read: there?
-- built    tl:run:{n}          hash    written
-- built    tl:feedback:{id}    hash    state 'claimed', run
-- built    tl:feedback:totals  hash    counters
--
-- ARGV: parent, fewest votes, time, lease (ms), then id, revision, JSON of each vote.
-- Returns the run's hash, or nil when there is nothing to claim now.

if redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3], KEYS[9]) > 0 then return nil end
if (redis.call('HGET', KEYS[4], 'live') or 'base') ~= ARGV[1] then return nil end

local ids, frozen = {}, {}
for i = 5, #ARGV, 3 do
  local vote = redis.call('HMGET', feedback_key(ARGV[i]), 'scored', 'state')
  local there = redis.call('EXISTS', completion_key(ARGV[i])) == 1
  if there and vote[1] == ARGV[i + 1] and vote[2] == 'pending' then
    ids[#ids + 1] = ARGV[i]
    frozen[#frozen + 1] = ARGV[i + 2]
  end
end
if #ids == 0 or #ids < tonumber(ARGV[2]) then return nil end

local number = redis.call('INCR', KEYS[7])
local fence = redis.call('INCR', KEYS[6])
local batch = '[' .. table.concat(frozen, ',') .. ']'
redis.call('HSET', run_key(number), 'number', number, 'state', 'claimed', 'fence', fence,
  'parent', ARGV[1], 'votes', batch, 'batch_hash', redis.sha1hex(batch), 'attempts', 1,
  'failures', 0, 'deaths', 0, 'claimed_at', ARGV[3])
redis.call('ZADD', KEYS[8], number, number)
redis.call('SET', KEYS[3], number)
redis.call('SET', KEYS[2], fence, 'PX', ARGV[4])
for _, id in ipairs(ids) do
  leave_queue(id)
  redis.call('HSET', feedback_key(id), 'state', 'claimed', 'run', number)
  count_state('scored', 'pending', 'claimed')
end
return redis.call('HGETALL', run_key(number))
