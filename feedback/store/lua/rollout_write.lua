-- Writes one planned change of the rollout, if nothing has moved since it was planned.
--
-- KEYS[1]  tl:rollout         hash    generation compared; its fields
-- KEYS[2]  tl:learning        string  by a kill: compared; who paused it, unless it is paused
-- KEYS[3]  tl:returning       list    runs whose votes are to be given back, or taken back again
-- KEYS[4]  tl:ungated         zset    versions that have their verdict now removed
-- built    tl:version:{v}     hash    state compared; state, reason, figures, who changed it and when
-- built    tl:rollout:events  stream  one event
--
-- ARGV: JSON of the change. Returns 1, or 0 when something has moved.

local change = cjson.decode(ARGV[1])
if (redis.call('HGET', KEYS[1], 'generation') or '0') ~= change.generation then return 0 end
if change.paused_by ~= '' and redis.call('EXISTS', KEYS[2]) ~= change.was_paused then return 0 end
for _, move in ipairs(change.moves) do
  if redis.call('HGET', version_key(move.version), 'state') ~= move.old then return 0 end
end

-- Sets a hash's fields; those that are to be '' are deleted.
local function put(key, fields)
  local set, unset = {}, {}
  for field, value in pairs(fields) do
    if value == '' then
      unset[#unset + 1] = field
    else
      set[#set + 1] = field
      set[#set + 1] = value
    end
  end
  if #set > 0 then redis.call('HSET', key, unpack(set)) end
  if #unset > 0 then redis.call('HDEL', key, unpack(unset)) end
end

put(KEYS[1], change.rollout)
for _, move in ipairs(change.moves) do
  put(version_key(move.version), move.fields)
  if move.old == 'candidate' then redis.call('ZREM', KEYS[4], move.version) end
end
for _, run in ipairs(change.returns) do redis.call('RPUSH', KEYS[3], run) end
for _, run in ipairs(change.retakes) do redis.call('RPUSH', KEYS[3], run) end
if change.paused_by ~= '' then redis.call('SET', KEYS[2], change.paused_by, 'NX') end
local event = change.event
audit(event.at, event.who, event.action, event.old, event.new, event.why, event.figures)
return 1
