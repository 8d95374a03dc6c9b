-- Reads a version and its ancestors, youngest first: one bounded piece of them.
--
-- built    tl:version:{v}  hash    read
--
-- ARGV: the version to begin with, most to read, then versions at which to stop.
-- Returns the facts of each; the last one's parent may be unknown.

local stop = {base = true}
for i = 3, #ARGV do stop[ARGV[i]] = true end
local chain, version = {}, ARGV[1]
while not stop[version] and #chain < tonumber(ARGV[2]) do
  local found = version_facts(version)
  if not found then break end
  chain[#chain + 1] = found
  stop[version] = true
  version = found[3]
end
return chain
