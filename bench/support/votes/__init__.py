"""The parts of `bench.votes`: its processes, its load, and what it measures beside the rate."""
