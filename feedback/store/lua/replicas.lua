-- Reads what the replicas serve; forgets those that have fallen silent.
--
-- KEYS[1]  tl:replicas      set   read; silent ones removed
-- built    tl:replica:{id}  hash  read

local found = {}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local replica = redis.call('HGETALL', replica_key(id))
  if #replica > 0 then found[#found + 1] = replica else redis.call('SREM', KEYS[1], id) end
end
return found
