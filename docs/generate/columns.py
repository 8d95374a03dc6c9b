#!/usr/bin/env python3
"""Write docs/reference/columns.md from the declaration of a record; ``--check`` compares only."""

from __future__ import annotations

import re
import sys
from textwrap import fill

from writing import write_or_check

from feedback.export.row import RecordRow
from feedback.export.schema import schema

INTRODUCTION = """\
# Columns of a record

A row of the layout `records` says everything about one vote. Write such rows with:

```sh
thumbloop feedback export --out votes.jsonl
```

A column is null where there is nothing to say. Times are seconds since the epoch. The types are
those in Parquet; JSON lines have the JSON of the same.

`make pages` writes this page from the declaration of the columns; a test holds it current.
"""
WIDTH = 99


def page() -> str:
    """Return the page's text."""
    types = {field.name: _named(str(field.type)) for field in schema("records")}
    fields = RecordRow.model_fields.items()
    entries = [f"- `{name}` (`{types[name]}`): {field.description}" for name, field in fields]
    wrapped = [fill(entry, WIDTH, subsequent_indent="  ") for entry in entries]
    return INTRODUCTION + "\n" + "\n".join(wrapped) + "\n"


def _named(kind: str) -> str:
    """Return the name of a type, without what pyarrow calls an element."""
    return re.sub(r"\b(element|item): ", "", kind)


if __name__ == "__main__":
    sys.exit(write_or_check("columns.md", page()))
