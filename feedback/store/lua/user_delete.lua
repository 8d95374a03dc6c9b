-- Deletes one bounded piece of what a user left, and notes what was learned from it.
--
-- KEYS[1]  tl:user:{owner}:{user}      zset    ids removed
-- KEYS[2]  tl:deleting:{owner}:{user}  hash    counts, versions and runs added; expires
-- built    tl:completion:{id}          hash    deleted
-- built    tl:feedback:{id}            hash    deleted
-- built    tl:feedback:ready           zset    ids removed
-- built    tl:feedback:log             stream  events 'deleted'
-- built    tl:version:{v}              hash    counters completions, up, down
-- built    tl:feedback:totals          hash    counters
-- built    tl:tally:votes:{name}       hash    the user removed
--
-- ARGV: owner, user, most completions, time to live of the note (ms), then names of versions and
-- runs that are known to have learned from the user. Returns how many ids were taken on.

local ids = redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[3]) - 1)
local function note(name, by) redis.call('HINCRBY', KEYS[2], name, by) end
note('completions', 0)
redis.call('PEXPIRE', KEYS[2], ARGV[4])
for i = 5, #ARGV do note(ARGV[i], 0) end
local person = person_of('', ARGV[1], ARGV[2], '')
for _, names in ipairs({{'canary', 'control'}, redis.call('SMEMBERS', TALLIES)}) do
  for _, name in ipairs(names) do redis.call('HDEL', tally_votes_key(name), person) end
end
for _, id in ipairs(ids) do
  local vote = delete_completion(id, ARGV[1], ARGV[2])
  if vote then
    note('completions', 1)
    if vote.current then note('votes', 1) end
    if vote.version then note('version:' .. vote.version, 0) end
    if vote.run then note('run:' .. vote.run, 0) end
  end
  redis.call('ZREM', KEYS[1], id)
end
return #ids
