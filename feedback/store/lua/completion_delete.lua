-- Deletes a completion of its owner, and the vote on it; also a vote that outlived its completion.
--
-- built    tl:completion:{id}      hash    read: owner, user, version; deleted
-- built    tl:user:{owner}:{user}  zset    id removed
-- built    tl:feedback:{id}        hash    read where the completion is gone; deleted
-- built    tl:feedback:ready       zset    id removed
-- built    tl:feedback:log         stream  event 'deleted'
-- built    tl:version:{v}          hash    counters completions, up, down
-- built    tl:feedback:totals      hash    counters
--
-- ARGV: id, owner, user. Returns 1, or 0 when the user has no such completion.

return delete_completion(ARGV[1], ARGV[2], ARGV[3]) and 1 or 0
