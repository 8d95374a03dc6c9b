"""The batch that every arm is given, and the figures that it gives back; runs in any environment.

An arm is a program: ``python arm.py GIVEN.json FIGURES.json``. What loads models and data is not
timed.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def given() -> dict[str, Any]:
    """Return what the bench asks of this arm.

    ``base`` is the model's folder, ``adapter`` the folder of the version to start from, ``votes`` a
    list of ``prompt`` and ``reply`` (token ids), ``logprobs`` and ``reward``; ``epochs``,
    ``minibatch``, ``rank``, ``alpha`` and ``form`` (which form of the arm) are settings.
    """
    asked: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    return asked


@contextmanager
def timed() -> Iterator[dict[str, Any]]:
    """Time a block; what it puts into the dictionary is part of the figures."""
    figures: dict[str, Any] = {}
    wall, before = time.perf_counter(), os.times()
    yield figures
    after = os.times()
    figures["seconds"] = round(time.perf_counter() - wall, 2)
    figures["cpu_seconds"] = round(after.user + after.system - before.user - before.system, 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures["peak_mib"] = round(peak / 1024)
    Path(sys.argv[2]).write_text(json.dumps(figures))
