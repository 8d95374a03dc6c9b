from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, get_args

import pyarrow.parquet as pq
import pytest

from feedback.export import writers
from feedback.export.layouts import PAIRED, Layout, pair_row, single_rows
from feedback.export.pairs import PreferencePair
from feedback.export.records import as_row
from feedback.export.row import COLUMNS
from feedback.export.schema import schema
from feedback.export.writers import FREE_FORM, ParquetStream, encode_line
from feedback.vote_record import VoteRecord
from models.types import Message

if TYPE_CHECKING:
    from tests.support.store.fixtures import MakeRecord


@pytest.mark.parametrize(
    "text",
    [
        "a\nb\r\n",
        "\u2028\u2029\u0085\x0b\x0c\x1c",
        "Grüße \U0001f642",
        '"\\',
        "\x00",
        "x" * 3_000_000,
    ],
)
def test_a_row_is_one_line_however_lines_are_told_apart(text: str) -> None:
    line = encode_line({"text": text, text[:9]: 1})
    assert line.endswith(b"\n")
    assert len(line.decode().splitlines()) == 1
    assert json.loads(line) == {"text": text, text[:9]: 1}


def test_halves_of_surrogate_pairs_are_replaced_and_whole_pairs_joined() -> None:
    line = encode_line({"a": "x\ud800y", "b": "\ud83d\ude42"})
    assert json.loads(line.decode()) == {"a": "x\ufffdy", "b": "\U0001f642"}


def rows_of(layout: Layout, record: MakeRecord) -> list[dict[str, Any]]:
    if layout in PAIRED:
        return [pair_row(layout, PreferencePair((Message("user", "Q\u2028"),), "good", "bad"))]
    made = [record(1, thumb="up"), record(2, rating=0.5, correction="c")]
    rows = [row for each in made for row in single_rows(layout, each)]
    if layout == "records":
        rows.append(as_row(VoteRecord("chatcmpl-3", "deleted", 3, 2000.5)))
    return rows


@pytest.mark.parametrize("layout", get_args(Layout))
def test_parquet_holds_the_same_rows_as_lines(layout: Layout, record: MakeRecord) -> None:
    rows = rows_of(layout, record)
    stream = ParquetStream(layout)
    made = stream.write([encode_line(row) for row in rows]) + stream.close()
    table = pq.read_table(io.BytesIO(made))
    assert table.schema.equals(schema(layout))
    found = table.to_pylist()
    for row in found:
        for name in FREE_FORM:
            if row.get(name):
                row[name] = json.loads(row[name])
    assert found == rows


def test_the_columns_of_records_are_those_of_their_rows() -> None:
    assert tuple(schema("records").names) == COLUMNS


def test_parquet_is_handed_out_in_pieces(
    record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "GROUP_ROWS", 10)
    stream = ParquetStream("kto")
    line = [encode_line(row) for row in single_rows("kto", record(1, thumb="up"))]
    pieces = [stream.write(line) for _ in range(35)]
    assert [bool(piece) for piece in pieces[1:]] == [i % 10 == 9 for i in range(1, 35)]
    found = pq.ParquetFile(io.BytesIO(b"".join(pieces) + stream.close()))
    assert found.num_row_groups == 4
    assert found.metadata.num_rows == 35
