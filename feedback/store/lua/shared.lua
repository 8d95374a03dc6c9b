-- Put in front of every script: names of keys, totals, the audit, votes of a run.
--
-- tl:feedback:totals    hash    votes per thumb and per state
-- tl:version:{v}        hash    counters up, down
-- tl:feedback:{id}      hash    the current vote
-- tl:feedback:ready     zset    votes that no run has claimed
-- tl:rollout:events     stream  the audit

local TOTALS, READY, EVENTS = 'tl:feedback:totals', 'tl:feedback:ready', 'tl:rollout:events'
local function completion_key(id) return 'tl:completion:' .. id end
local function feedback_key(id) return 'tl:feedback:' .. id end
local function version_key(v) return 'tl:version:' .. v end
local function run_key(n) return 'tl:run:' .. n end

-- Counts a score as an approving (> 0) or disapproving (< 0) vote on a version, or takes it back.
local function count_thumb(version, score, by)
  local number = tonumber(score)
  if not number or number == 0 then return end
  local thumb = number > 0 and 'up' or 'down'
  redis.call('HINCRBY', version_key(version), thumb, by)
  redis.call('HINCRBY', TOTALS, thumb, by)
end

-- Moves one vote between the totals of two states; either may be nil. A vote without a score
-- counts as 'unscored', whatever its state.
local function count_state(score, old, new)
  if score == '' then
    old, new = old and 'unscored', new and 'unscored'
  end
  if old == new then return end
  if old then redis.call('HINCRBY', TOTALS, old, -1) end
  if new then redis.call('HINCRBY', TOTALS, new, 1) end
end

local function audit(at, who, action, old, new, why, figures)
  redis.call('XADD', EVENTS, '*', 'at', at, 'who', who, 'action', action,
    'old', old, 'new', new, 'why', why, 'figures', figures)
end

-- Calls change(id, feedback key, score) for each frozen vote of a run that is still the current
-- one and in the state that is asked for. A vote names the run that claimed it until its score
-- changes, it is withdrawn, or it is given back; so that name is all that has to be compared.
local function each_current(n, state, change)
  for _, vote in ipairs(cjson.decode(redis.call('HGET', run_key(n), 'votes'))) do
    local key = feedback_key(vote[1])
    local now = redis.call('HMGET', key, 'run', 'state', 'score')
    if now[1] == tostring(n) and now[2] == state then
      change(vote[1], key, now[3])
    end
  end
end

local function discard_vote(key, score, state, reason)
  redis.call('HDEL', key, 'version')
  redis.call('HSET', key, 'state', 'discarded', 'reason', reason)
  count_state(score, state, 'discarded')
end

-- Gives back the votes that a version learned: once to the queue, in their old place; then never.
local function return_votes(n, reason)
  each_current(n, 'learned', function(id, key, score)
    if redis.call('HEXISTS', key, 'returned') == 1 then
      discard_vote(key, score, 'learned', reason)
    else
      redis.call('HDEL', key, 'version', 'run')
      redis.call('HSET', key, 'state', 'pending', 'returned', '1')
      redis.call('ZADD', READY, redis.call('HGET', key, 'voted_at'), id)
      count_state(score, 'learned', 'pending')
    end
  end)
end

