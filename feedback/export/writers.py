"""Rows as bytes: JSON lines, and Parquet in pieces. Files are written in ``files``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from feedback.export.schema import schema
from models.one_line import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedback.export.layouts import Layout, Row

FREE_FORM = ("metadata", "signals")
"""Columns that are objects with any names: JSON in Parquet."""
GROUP_ROWS = 1000
GROUP_BYTES = 16 * 1024 * 1024
"""Rows of a Parquet row group, and bytes of them as JSON: what is held in memory at a time."""


def encode_line(row: Row) -> bytes:
    """Return a row as one line of UTF-8; halves of surrogate pairs become U+FFFD."""
    line = json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    line = one_line(line) + "\n"
    try:
        return line.encode()
    except UnicodeEncodeError:
        whole = line.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return whole.encode()


class ParquetStream:
    """Makes a Parquet file in pieces, and keeps none of them once it has returned it."""

    def __init__(self, layout: Layout) -> None:
        # pyarrow takes 50 MB and a tenth of a second: only those who write Parquet pay.
        import pyarrow.parquet as pq  # noqa: PLC0415

        self._schema = schema(layout)
        self._sink = _ParquetSink()
        self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._group: list[bytes] = []
        self._size = 0

    def write(self, lines: Sequence[bytes]) -> bytes:
        """Take rows, as ``encode_line`` has them; return what has been made of the file since."""
        self._group += lines
        self._size += sum(map(len, lines))
        if len(self._group) >= GROUP_ROWS or self._size >= GROUP_BYTES:
            self._end_group()
        return self._sink.take()

    def close(self) -> bytes:
        """Return the end of the file, without which it cannot be read."""
        if self._group:
            self._end_group()
        self._writer.close()
        return self._sink.take()

    def _end_group(self) -> None:
        import pyarrow as pa  # noqa: PLC0415

        rows = [_parquet_row(json.loads(line)) for line in self._group]
        self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))
        self._group, self._size = [], 0


class _ParquetSink:
    """What pyarrow takes for a file that is only written at its end."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        made = b"".join(self._pieces)
        self._pieces.clear()
        return made

    def flush(self) -> None:
        """Do nothing: there is nothing below."""

    def close(self) -> None:
        """Do nothing: the stream's owner takes what is left."""


def _parquet_row(row: Row) -> Row:
    """Return a row as its Parquet file has it: free-form objects are JSON there.

    What is beyond 64 bits becomes the nearest number within: a record of an older release may hold
    such a ``top_k``, and must not stop the export of all others.
    """
    for name in FREE_FORM:
        if isinstance(row.get(name), dict):
            row[name] = json.dumps(row[name], ensure_ascii=False)
    return {name: _within_64_bits(value) for name, value in row.items()}


def _within_64_bits(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _within_64_bits(each) for name, each in value.items()}
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-(2**63), min(2**63 - 1, value))
    return value
