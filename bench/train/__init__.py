"""The arms of `bench.training`: each is a program, some of them for a peer's environment."""
