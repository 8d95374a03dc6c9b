"""The file that an export writes: durable piece by piece, and under its name only when whole.

``FILE.part`` holds JSON lines, in whichever format the file will be, because lines can be cut back
to the last piece that was finished and Parquet cannot. ``FILE.cursor`` says how far they are.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from feedback.errors import TransferError
from feedback.export.writers import ParquetStream
from models.disk import fsync_all, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from feedback.export.layouts import Format, Layout

_MODE = 0o600
"""Only their owner may read the files: what people said is in them."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far an export is.

    Attributes:
        since: The entry of the log after which it began.
        until: The last entry of the log that it takes.
        after: The last entry that it has taken.
        size: Bytes of ``FILE.part`` that count; what follows them was cut off by a crash.
        waiting: State of the pairing, see ``feedback.export.pairs``.
    """

    layout: Layout
    since: str
    until: str
    after: str
    size: int = 0
    events: int = 0
    rows: int = 0
    waiting: Sequence[tuple[str, str, bool]] = field(default_factory=list)


class PartFile:
    """``FILE.part`` and ``FILE.cursor``, held by one export at a time."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._part = target.with_name(target.name + ".part")
        self._cursor = target.with_name(target.name + ".cursor")
        self._lines: BinaryIO | None = None

    def finished(self) -> Cursor | None:
        """Return the cursor of an export that died after its file was whole, before all else."""
        return self._read_cursor() if self._target.exists() else None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the file until the block ends.

        Raises:
            TransferError: The target is there already, another export writes it, or its folder
                cannot be written.
        """
        self._check_target()
        try:
            self._part.touch(_MODE)
            lines = self._part.open("ab+")
        except OSError as error:
            raise TransferError(f"{self._part} cannot be written: {error}") from error
        with lines:
            try:
                fcntl.flock(lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise TransferError(f"Another export writes {self._target} now.") from error
            self._check_target()  # One that ended just now may have made it.
            self._lines = lines
            yield

    def _check_target(self) -> None:
        if self._target.exists():
            raise TransferError(f"{self._target} exists already: move it, or name another file.")

    @property
    def lines(self) -> BinaryIO:
        """The open file."""
        if self._lines is None:
            raise TransferError("The file is not held.")
        return self._lines

    def resume(self) -> Cursor | None:
        """Return where an unfinished export stopped, and cut off what it wrote after that."""
        cursor = self._read_cursor()
        if cursor is None:
            self.lines.truncate(0)
            return None
        if os.fstat(self.lines.fileno()).st_size < cursor.size:
            raise TransferError(
                f"{self._part} is shorter than {self._cursor} says: delete both and start anew."
            )
        self.lines.truncate(cursor.size)
        return cursor

    def restart(self) -> None:
        """Forget an unfinished export."""
        self._cursor.unlink(missing_ok=True)
        self.lines.truncate(0)

    def add(self, lines: Sequence[bytes]) -> None:
        """Write a piece; it counts from the next ``keep`` on."""
        self.lines.write(b"".join(lines))

    def keep(self, cursor: Cursor) -> None:
        """Make what was written so far count: once this returns, it is on disk."""
        self.lines.flush()
        os.fsync(self.lines.fileno())
        size = os.fstat(self.lines.fileno()).st_size
        known = {name: getattr(cursor, name) for name in Cursor.__dataclass_fields__}
        write_atomically(self._cursor, json.dumps({**known, "size": size}).encode())

    def finish(self, layout: Layout, form: Format) -> None:
        """Put the file under its name, whole and on disk."""
        if form == "parquet":
            made = self._target.with_name(self._target.name + ".making")
            _to_parquet(self._part, made, layout)
            made.replace(self._target)
        else:
            self._part.replace(self._target)
        fsync_all([self._target.parent])

    def clear(self) -> None:
        """Remove what only an unfinished export needs."""
        self._part.unlink(missing_ok=True)
        self._cursor.unlink(missing_ok=True)

    def _read_cursor(self) -> Cursor | None:
        try:
            return Cursor(**json.loads(self._cursor.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise TransferError(
                f"{self._cursor} cannot be read: leave --resume out to begin anew. ({error})"
            ) from error


def _to_parquet(source: Path, target: Path, layout: Layout) -> None:
    stream = ParquetStream(layout)
    target.touch(_MODE)
    with source.open("rb") as lines, target.open("wb") as file:
        file.writelines(stream.write([line]) for line in lines)
        file.write(stream.close())
        file.flush()
        os.fsync(file.fileno())
