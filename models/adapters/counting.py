"""What readers of archives share: members, and streams whose bytes are counted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from models.errors import ImportRefusedError

MAX_MEMBERS = 256
CHUNK = 1 << 20


class Readable(Protocol):
    """Something to read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a folder or archive; ``file`` can be read until the next member is asked for."""

    path: PurePosixPath
    file: Readable


class Budget:
    """Bytes that may still be unpacked."""

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit

    def spend(self, count: int) -> None:
        """Take ``count`` bytes off.

        Raises:
            ImportRefusedError: There are not so many left.
        """
        self._left -= count
        if self._left < 0:
            raise ImportRefusedError(
                f"It is larger than {self._limit} bytes when unpacked. Raise "
                "THUMBLOOP_IMPORT_MAX_BYTES if that is meant."
            )


class CountedStream:
    """Reads a stream and counts; it refuses to go on past the limit."""

    def __init__(self, file: Readable, budget: Budget) -> None:
        self._file = file
        self._budget = budget

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes, none at the end."""
        found = self._file.read(size)
        self._budget.spend(len(found))
        return found


def inside(name: str) -> PurePosixPath:
    """Return a member's path.

    Raises:
        ImportRefusedError: It leads out of the archive.
    """
    path = PurePosixPath(name)
    unusual = "\\" in name or "\0" in name or (path.parts and path.parts[0].endswith(":"))
    if path.is_absolute() or ".." in path.parts or unusual:
        raise ImportRefusedError(f"{name!r} leads out of the archive: refused.")
    return path
