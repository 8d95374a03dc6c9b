"""Shows on standard error how far a bench is."""

import sys


def say(line: str) -> None:
    """Write a line."""
    sys.stderr.write(f"{line}\n")


def overwrite(line: str) -> None:
    """Write a line that the next call overwrites."""
    sys.stderr.write(f"\r{line}")
    sys.stderr.flush()
