"""What every arm is given, and the figures that it gives back; it runs in any environment.

An arm is a program: ``python -m bench.train.ARM GIVEN.json FIGURES.json``. Loading models and data
is not timed.
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

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHAPE, _TIMES = (896, 576, 1536), 20
"""A product of a minibatch with one of the default base's weights, and how often it is timed."""


def given() -> dict[str, Any]:
    """Return what the bench asks of this arm.

    ``base`` is the model's folder, ``adapter`` the folder of the version to start from, ``votes`` a
    list of ``prompt`` and ``reply`` (token ids), ``logprobs`` and ``reward``; ``epochs``,
    ``minibatch``, ``rank``, ``alpha`` and ``form`` (which form of the arm) are settings.
    """
    asked: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    return asked


def choose_fp32_products() -> str:
    """Let torch multiply fp32 matrices by MKL or oneDNN, whichever is faster here; return which.

    Twice as fast as MKL on an AMD EPYC, oneDNN takes a third longer on an Intel Xeon. Both are
    exact to fp32's last bits there.
    """
    rows, inputs, columns = _SHAPE
    a, b = torch.randn(rows, inputs), torch.randn(inputs, columns)
    names = {"highest": "MKL", "medium": "oneDNN"}
    seconds = dict.fromkeys(names, float("inf"))
    for _ in range(_TIMES):
        for precision in names:
            torch.set_float32_matmul_precision(precision)
            start = time.perf_counter()
            torch.mm(a, b)
            seconds[precision] = min(seconds[precision], time.perf_counter() - start)
    fastest = min(seconds, key=seconds.__getitem__)
    torch.set_float32_matmul_precision(fastest)
    return names[fastest]


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
