"""Describes the machine, and writes a bench's figures."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import psutil

from bench.support.paths import RESULTS
from models.native.processor import processor

PRODUCTS = frozenset({"avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16"})
"""What decides how fast a processor multiplies, as Linux names it."""


def describe() -> dict[str, Any]:
    """Return what figures depend on; the load tells whether others were at work too."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "processor": [processor().vendor, *sorted(PRODUCTS & processor().flags)],
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def write_results(name: str, figures: dict[str, Any]) -> None:
    """Print figures, and write them to ``bench/results/<name>.json``."""
    text = json.dumps(figures, indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(f"\n{text}")
