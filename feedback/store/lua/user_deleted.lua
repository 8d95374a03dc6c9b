-- Ends the deletion of a user: the note goes, and the append-only file is to be rewritten.
--
-- KEYS[1]  tl:deleting:{owner}:{user}  hash    read; deleted
-- KEYS[2]  tl:retention                hash    rewrite
-- built    tl:feedback:waiting          hash    the user's count, should a vote have expired unseen
-- built    tl:rollout:events           stream  event 'delete_user', without a name
--
-- ARGV: who, owner, user. Returns the note.

local note = redis.call('HGETALL', KEYS[1])
local count = redis.call('HGET', KEYS[1], 'completions') or '0'
redis.call('DEL', KEYS[1])
redis.call('HDEL', WAITING, ARGV[2] .. ':' .. ARGV[3])
redis.call('HSET', KEYS[2], 'rewrite', 'wanted')
audit(server_time(), ARGV[1], 'delete_user', '', '', count .. ' replies', '{}')
return note
