#!/usr/bin/env python3
"""Write docs/reference/columns.md from the declaration of a record; ``--check`` compares only."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from textwrap import fill

from feedback.export.row import RecordRow
from feedback.export.schema import schema

PAGE = Path(__file__).parents[1] / "reference" / "columns.md"
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


def main() -> int:
    """Write or check the page; return the exit code."""
    current = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if current != page():
        sys.stderr.write("docs/reference/columns.md is not current; run: make pages\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
