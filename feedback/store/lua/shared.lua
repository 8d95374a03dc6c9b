-- Put in front of every script: totals, tallies, the queue, the audit, votes of a run.
--
-- keys.py declares the keys that are named here, such as READY and completion_key(id).
--
-- tl:completion:{id}      hash    one reply
-- tl:user:{owner}:{user}  zset    a user's completions and votes
-- tl:feedback:totals      hash    votes per thumb and per state
-- tl:version:{v}          hash    counters completions, up, down, and tallies that it has had
-- tl:feedback:{id}        hash    the current vote
-- tl:feedback:ready       zset    votes that no run has claimed
-- tl:feedback:turns       zset    the same votes, users in turn
-- tl:feedback:waiting     hash    how many votes of each user wait
-- tl:feedback:expiring    zset    the same votes, by when their completions expire
-- tl:rollout:events       stream  the audit
-- tl:feedback:log         stream  every accepted event
-- tl:rollout              hash    read: live, live_since, canary, canary_since, confirmed
-- tl:tallies              set     versions that are counted for the judge
-- tl:tally:votes:{name}   hash    of a version, or a side of the trial: 'up down withdrawn' by person
-- tl:trial                string  the canary and the live version whose trial the two sides are of

-- People beyond so many are not counted for a version: they would not change the verdict, and a
-- tally stays below about 1 MB.
local MOST_PEOPLE = 10000

-- Counts a score as an approving (> 0) or disapproving (< 0) vote on a version, or takes it back.
local function count_thumb(version, score, by)
  local number = tonumber(score)
  if not number or number == 0 then return end
  local thumb = number > 0 and 'up' or 'down'
  redis.call('HINCRBY', version_key(version), thumb, by)
  redis.call('HINCRBY', TOTALS, thumb, by)
end

-- Returns what the two sides of the trial are, as one text, and since when; nil while there is no
-- canary. Tallies of another trial are emptied: a canary that is compared with another live version
-- from now on is compared afresh.
local function current_trial()
  local found = redis.call('HMGET', ROLLOUT, 'canary', 'canary_since', 'live', 'live_since')
  if (found[1] or '') == '' then return nil end
  local canary_since, live_since = found[2] or '', found[4] or ''
  local trial = table.concat({found[1], canary_since, found[3] or 'base', live_since}, '@')
  if redis.call('GET', TRIAL) ~= trial then
    for _, side in ipairs({'canary', 'control'}) do
      redis.call('UNLINK', tally_votes_key(side), tally_replies_key(side))
    end
    redis.call('SET', TRIAL, trial)
  end
  return trial, math.max(tonumber(canary_since) or 0, tonumber(live_since) or 0)
end

-- Returns the tallies that a reply of a version counts in: the version's own if it is
-- live, confirmed or the canary, or was counted until now; and that of its side of the trial if the
-- reply was made since that began.
local function tallies_of(version, made_at)
  local found = redis.call('HMGET', ROLLOUT, 'live', 'confirmed', 'canary')
  local live, confirmed, canary = found[1] or 'base', found[2] or '', found[3]
  if confirmed == '' then confirmed = 'base' end
  local names = {}
  if version == live or version == confirmed or version == canary then
    if redis.call('SADD', TALLIES, version) == 1 then
      redis.call('HINCRBY', version_key(version), 'tallies', 1)
    end
    names[1] = version
  elseif redis.call('SISMEMBER', TALLIES, version) == 1 then
    names[1] = version
  end
  local trial, since = current_trial()
  if trial and made_at >= since and (version == canary or version == live) then
    names[#names + 1] = version == canary and 'canary' or 'control'
  end
  return names
end

-- Returns whom a vote is counted as: its user; where there is none its conversation, or else itself,
-- as a canary is drawn. A hash, so that tallies hold no names.
local function person_of(id, owner, user, conversation)
  local who = 'r:' .. id
  if (conversation or '') ~= '' then who = 'c:' .. owner .. ':' .. conversation end
  if user ~= '' then who = 'u:' .. owner .. ':' .. user end
  return string.sub(redis.sha1hex(who), 1, 16)
end

-- Adds to what a person said of a tally; returns whether the person is counted there.
local function add_to_tally(name, person, up, down, withdrawn)
  local key = tally_votes_key(name)
  local old = redis.call('HGET', key, person)
  if not old and (up + down < 0 or redis.call('HLEN', key) >= MOST_PEOPLE) then return false end
  local a, b, c = string.match(old or '0 0 0', '(%d+) (%d+) (%d+)')
  a, b, c = math.max(0, a + up), math.max(0, b + down), c + withdrawn
  if a + b + c == 0 then
    redis.call('HDEL', key, person)
  else
    redis.call('HSET', key, person, string.format('%d %d %d', a, b, c))
  end
  return true
end

-- Returns which tally of a name is counted now, of those it had one after the other: a side's trial, or
-- how many tallies the version has had. A vote is taken only out of the one that it is in.
local function which_tally(name)
  if name == 'canary' or name == 'control' then return redis.call('GET', TRIAL) or '' end
  return redis.call('HGET', version_key(name), 'tallies') or ''
end

-- Counts a vote for the judge, by person; not on a reply of a version that was asked for by its name,
-- since sides are compared by people who were dealt them. The vote's hash remembers where:
-- 'person name=which name=which ...'.
local function tally_vote(id, owner, user, version, score)
  local number = tonumber(score)
  if not number or number == 0 then return end
  local made = redis.call('HMGET', completion_key(id), 'conversation', 'created_at', 'pinned')
  if made[3] == '1' then return end
  local names = tallies_of(version, tonumber(made[2] or '') or 0)
  local person = person_of(id, owner, user, made[1])
  local up = number > 0 and 1 or 0
  local where = {person}
  for _, name in ipairs(names) do
    if add_to_tally(name, person, up, 1 - up, 0) then
      where[#where + 1] = name .. '=' .. which_tally(name)
    end
  end
  if where[2] then redis.call('HSET', feedback_key(id), 'tallied', table.concat(where, ' ')) end
end

-- Takes a vote out of the judge's counts again; 'withdrawn' is 1 where its user took it back.
local function untally_vote(id, score, withdrawn)
  local tallied = redis.call('HGET', feedback_key(id), 'tallied')
  if not tallied then return end
  redis.call('HDEL', feedback_key(id), 'tallied')
  local up = tonumber(score) > 0 and 1 or 0
  local person, where = string.match(tallied, '^(%S+) (.*)$')
  for name, which in string.gmatch(where, '([^%s=]+)=(%S*)') do
    if which == which_tally(name) then
      add_to_tally(name, person, -up, up - 1, withdrawn)
    end
  end
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

-- Returns the server's time as text, in seconds since the epoch.
local function server_time()
  local time = redis.call('TIME')
  return time[1] .. '.' .. string.format('%06d', time[2])
end

local function audit(at, who, action, old, new, why, figures)
  redis.call('XADD', EVENTS, '*', 'at', at, 'who', who, 'action', action,
    'old', old, 'new', new, 'why', why, 'figures', figures)
end

-- Returns what the rules of the rollout need of a version; nil where there is none.
local function version_facts(version)
  local found = redis.call('HMGET', version_key(version), 'state', 'parent', 'run', 'stopped_at')
  if not found[1] then return nil end
  return {version, found[1], found[2] or '', found[3] or '', found[4] or ''}
end

-- Returns who may vote on a reply, and the version that wrote it: owner, user, version. The vote's
-- hash has them, which outlives the completion; before the first vote only the completion does.
local function voter_of(id)
  local found = redis.call('HMGET', feedback_key(id), 'owner', 'user', 'made_by')
  if found[1] then return found end
  return redis.call('HMGET', completion_key(id), 'owner', 'user', 'version')
end

-- Takes a vote out of the queue; its hash has to be there still. Returns 1, or 0 when it was not in.
local function leave_queue(id)
  local was_in = redis.call('ZREM', READY, id)
  redis.call('ZREM', EXPIRING, id)
  if redis.call('ZREM', TURNS, id) == 1 then
    local voter = voter_of(id)
    local who = (voter[1] or '') .. ':' .. (voter[2] or '')
    if redis.call('HINCRBY', WAITING, who, -1) <= 0 then redis.call('HDEL', WAITING, who) end
    if redis.call('EXISTS', TURNS) == 0 then redis.call('DEL', WAITING) end
  end
  return was_in
end

-- Puts a vote into the queue: by its time, by when its completion expires, and by turn. A user's
-- first waiting vote has the turn that is on now, the second the next one, and so on, so that the
-- front of the turns has every user's first vote before anyone's second. Within a turn the older
-- vote comes first: the time is the fraction (it is below 4e9 until the year 2096).
local function enter_queue(id, voted_at)
  local voter = voter_of(id)
  redis.call('ZADD', READY, voted_at, id)
  local ttl = redis.call('PTTL', completion_key(id))
  -- It may be gone, where a vote is given back: then the next sweep says that it has expired.
  if ttl == -2 then ttl = 0 end
  if ttl >= 0 then redis.call('ZADD', EXPIRING, redis.call('TIME')[1] + ttl / 1000, id) end
  local front = redis.call('ZRANGE', TURNS, 0, 0, 'WITHSCORES')[2] or 0
  local ahead = redis.call('HINCRBY', WAITING, voter[1] .. ':' .. voter[2], 1) - 1
  redis.call('ZADD', TURNS, math.floor(tonumber(front)) + ahead + voted_at / 4e9, id)
end

-- Sets one vote in place of the old one; the same vote again changes nothing. Returns its hash.
--
-- 'revision' rises with every change, 'scored' remembers the revision that last changed the score.
-- Only the score is learned from, so a vote whose comment changes keeps its state and its place.
-- 'owner', 'user' and 'made_by' (the version that wrote the reply) let it outlive its completion.
local function set_vote(id, source, vote, score, now, ttl)
  local key = feedback_key(id)
  local old = redis.call('HMGET', key, 'vote', 'score', 'state', 'revision', 'version')
  local stands = old[3] and old[3] ~= 'withdrawn'
  local same_score = stands and old[2] == score
  if same_score and old[1] == vote then return redis.call('HGETALL', key) end

  local revision = (tonumber(old[4]) or 0) + 1
  redis.call('HSET', key, 'vote', vote, 'revision', revision, 'updated_at', now,
    'owner', source[1], 'user', source[2], 'made_by', source[3])
  if not same_score then
    if stands then
      leave_queue(id)
      count_thumb(source[3], old[2], -1)
      untally_vote(id, old[2], 0)
      count_state(old[2], old[3], nil)
    end
    redis.call('HDEL', key, 'version', 'reason', 'run', 'returned')
    redis.call('HSET', key, 'score', score, 'scored', revision, 'state', 'pending', 'voted_at', now)
    count_thumb(source[3], score, 1)
    tally_vote(id, source[1], source[2], source[3], score)
    count_state(score, nil, 'pending')
    if score ~= '' then enter_queue(id, now) end
  end
  redis.call('PEXPIRE', key, ttl)
  redis.call('XADD', FEEDBACK_LOG, '*', 'event', 'put', 'id', id, 'revision', revision, 'score', score,
    'at', now, 'learned_by', not same_score and old[5] or '')
  return redis.call('HGETALL', key)
end

-- Withdraws a vote that stands. A tombstone stays, so that revisions never repeat.
local function withdraw_vote(id, made_by, now)
  local key = feedback_key(id)
  local old = redis.call('HMGET', key, 'state', 'score', 'revision', 'version')
  leave_queue(id)
  count_thumb(made_by, old[2], -1)
  untally_vote(id, old[2], 1)
  count_state(old[2], old[1], nil)
  local revision = tonumber(old[3]) + 1
  redis.call('HDEL', key, 'vote', 'score', 'version', 'reason', 'run', 'returned', 'voted_at')
  redis.call('HSET', key, 'state', 'withdrawn', 'revision', revision, 'updated_at', now)
  redis.call('XADD', FEEDBACK_LOG, '*', 'event', 'withdrawn', 'id', id, 'revision', revision,
    'at', now, 'learned_by', old[4] or '')
end

-- Ends the wait of a vote whose completion is gone; its hash may be gone too.
local function expire_vote(id)
  local key = feedback_key(id)
  if redis.call('HGET', key, 'state') == 'pending' then
    redis.call('HSET', key, 'state', 'expired')
  end
  if leave_queue(id) == 1 then count_state('scored', 'pending', 'expired') end
end

-- Calls change(id, feedback key, score) for each frozen vote of a run that is still the current
-- one and in the state that is asked for; returns how many votes the run froze. A vote names the
-- run that claimed it until its score changes, it is withdrawn, or it is given back; so that name
-- is all that has to be compared.
local function each_current(n, state, change)
  local votes = cjson.decode(redis.call('HGET', run_key(n), 'votes'))
  for _, vote in ipairs(votes) do
    local key = feedback_key(vote[1])
    local now = redis.call('HMGET', key, 'run', 'state', 'score')
    if now[1] == tostring(n) and now[2] == state then
      change(vote[1], key, now[3])
    end
  end
  return #votes
end

local function discard_vote(key, score, state, reason)
  redis.call('HDEL', key, 'version')
  redis.call('HSET', key, 'state', 'discarded', 'reason', reason)
  count_state(score, state, 'discarded')
end

-- Gives back the votes of a run that are in a state, learned or claimed, to the queue in their old
-- place; those that went back 'most' times already are discarded. 'returned' counts them. Returns
-- how many votes the run froze.
local function return_votes(n, state, reason, most)
  return each_current(n, state, function(id, key, score)
    local returned = tonumber(redis.call('HGET', key, 'returned')) or 0
    if returned >= most then
      discard_vote(key, score, state, reason)
    else
      redis.call('HDEL', key, 'version', 'run')
      redis.call('HSET', key, 'state', 'pending', 'returned', returned + 1)
      enter_queue(id, redis.call('HGET', key, 'voted_at'))
      count_state(score, state, 'pending')
    end
  end)
end

-- Counts the votes of a run that were given back, and that still wait as the run froze them, as
-- learned again by its version. They can be given back once more. Returns how many the run froze.
local function retake_votes(n, version)
  local votes = cjson.decode(redis.call('HGET', run_key(n), 'votes'))
  for _, vote in ipairs(votes) do
    local id, key = vote[1], feedback_key(vote[1])
    local now = redis.call('HMGET', key, 'state', 'scored', 'returned', 'score')
    local returned = tonumber(now[3]) or 0
    if now[1] == 'pending' and tonumber(now[2]) == vote[2] and returned > 0 then
      leave_queue(id)
      redis.call('HSET', key, 'state', 'learned', 'version', version, 'run', n,
        'returned', returned - 1)
      count_state(now[4], 'pending', 'learned')
    end
  end
  return #votes
end

-- Deletes a person's completion and the vote on it, also where only the vote has not expired, and
-- takes both out of the counts. Returns what the vote was, or nil when the person has neither.
local function delete_completion(id, owner, user)
  local key = feedback_key(id)
  local source = redis.call('HMGET', completion_key(id), 'owner', 'user', 'version')
  if not source[1] then source = redis.call('HMGET', key, 'owner', 'user', 'made_by') end
  if source[1] ~= owner or source[2] ~= user then return nil end
  local vote = redis.call('HMGET', key, 'state', 'score', 'version', 'run', 'revision')
  local current = vote[1] and vote[1] ~= 'withdrawn'
  if current then
    count_thumb(source[3], vote[2], -1)
    untally_vote(id, vote[2], 0)
    count_state(vote[2], vote[1], nil)
  end
  redis.call('HINCRBY', version_key(source[3]), 'completions', -1)
  leave_queue(id)
  redis.call('ZREM', user_key(owner, user), id)
  redis.call('DEL', completion_key(id), key)
  redis.call('XADD', FEEDBACK_LOG, '*', 'event', 'deleted', 'id', id,
    'revision', (tonumber(vote[5]) or 0) + 1, 'at', server_time(), 'learned_by', vote[3] or '')
  return {current = current, version = vote[3], run = vote[4]}
end

-- Lets nobody take the open run over for a while.
local function rest(key, fence, milliseconds)
  if tonumber(milliseconds) > 0 then redis.call('SET', key, fence, 'PX', milliseconds) end
end
