-- Reads whether workers check for work and the record is kept in bounds, in one round trip.
--
-- KEYS[1]  tl:looked          string  read
-- KEYS[2]  tl:feedback:ready  zset    counted
-- KEYS[3]  tl:feedback:log    stream  counted
-- KEYS[4]  tl:retention       hash    read

return {
  redis.call('GET', KEYS[1]), redis.call('ZCARD', KEYS[2]), redis.call('XLEN', KEYS[3]),
  redis.call('HGETALL', KEYS[4])
}
