"""The questions that benches ask: those of a file, or the product's own without one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.support.paths import ROOT, SHARED_DATA

OWN = ROOT / "service" / "simulate" / "prompts.jsonl"
GIVEN = SHARED_DATA / "prompts_train.jsonl"


def chosen_file(path: Path) -> str | None:
    """Return the file to ask from, or None, with a word to the reader, where it is absent."""
    if path.is_file():
        return str(path.resolve())
    sys.stderr.write(f"{path} is absent: asking the product's own questions instead.\n")
    return None


def read_questions(path: str | None) -> list[str]:
    """Return the ``prompt`` of each line of a JSON-lines file; of the product's own for None."""
    lines = Path(path or OWN).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines if line.strip()]
