"""Reads a file of the layout ``records`` row by row, in bounded memory, whatever is in the file."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feedback.errors import TransferError
from feedback.export.records import BadRowError, from_row
from feedback.export.writers import FREE_FORM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from feedback.vote_record import VoteRecord

_PARQUET_MAGIC = b"PAR1"
_PARQUET_ROWS = 100
LONGEST_LINE = 64 * 1024 * 1024
"""Bytes; no reply is that long, and a file without ends of lines must not fill the memory."""


@dataclass(frozen=True, slots=True)
class ReadRow:
    """One row: its number, from 1, and its record, or why it is none."""

    number: int
    record: VoteRecord | None
    problem: str = ""


def read_records(path: Path) -> Iterator[ReadRow]:
    """Yield the rows of a file, JSON lines or Parquet by what it begins with.

    Raises:
        TransferError: The file cannot be read at all.
    """
    try:
        with path.open("rb") as file:
            parquet = file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
        yield from _of_parquet(path) if parquet else _of_lines(path)
    except OSError as error:
        raise TransferError(f"{path} cannot be read: {error}") from error


def _of_lines(path: Path) -> Iterator[ReadRow]:
    with path.open("rb") as lines:
        number = 0
        while line := lines.readline(LONGEST_LINE):
            number += 1
            if line.strip():
                yield _read(number, line)


def _of_parquet(path: Path) -> Iterator[ReadRow]:
    # pyarrow takes 50 MB and a tenth of a second: only those who read Parquet pay.
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        # What is buffered beforehand is kept until the end: the whole file, in time.
        with pq.ParquetFile(path, pre_buffer=False) as file:
            number = 0
            for batch in file.iter_batches(_PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield _checked(number, _with_objects(row))
    except pa.ArrowException as error:
        raise TransferError(f"{path} is not a whole Parquet file: {error}") from error


def _read(number: int, line: bytes) -> ReadRow:
    try:
        return _checked(number, json.loads(line))
    except (ValueError, RecursionError) as error:
        return ReadRow(number, None, f"no JSON: {error}")


def _checked(number: int, row: object) -> ReadRow:
    try:
        return ReadRow(number, from_row(row))
    except BadRowError as error:
        return ReadRow(number, None, str(error))


def _with_objects(row: dict[str, Any]) -> dict[str, Any]:
    """Return a Parquet row with its free-form objects, JSON there, as JSON lines have them."""
    for name in FREE_FORM:
        if isinstance(row.get(name), str):
            # What is no JSON is refused as text, like any other wrong type.
            with contextlib.suppress(ValueError):
                row[name] = json.loads(row[name])
    return row
