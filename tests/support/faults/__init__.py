"""A site of real processes that tests break, and who uses it meanwhile."""
