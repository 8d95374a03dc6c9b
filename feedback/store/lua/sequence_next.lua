-- Takes the next number of a run or a version.
--
-- KEYS[1]  tl:sequence  int     raised

return redis.call('INCR', KEYS[1])
