-- Forgets a replica that stops.
--
-- KEYS[1]  tl:replica:{id}  hash  deleted
-- KEYS[2]  tl:replicas      set   id removed
--
-- ARGV: id

redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[1])
return 1
