"""The parts of `bench.votes`: its processes, its load, memory, and growing numbers of votes."""
