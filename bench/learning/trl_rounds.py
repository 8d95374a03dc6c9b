"""Runs one of TRL's arms in TRL's environment, and publishes the adapters that the arm saves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.learning.rounds import Learned
from bench.support.paths import ROOT
from bench.support.peer_setup import TRL
from models.adapters import CONFIG_FILE, WEIGHTS_FILE, AdapterStore, Origin
from models.base.loading import imported_folder, load_base
from models.types import BASE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from models.settings import LearnerSettings

PROGRAM = "bench.learning.trl_arm"


def trl_rounds(order: Mapping[str, Any], settings: LearnerSettings) -> Iterator[Learned]:
    """Let TRL learn; yield each adapter that it saved as a published version.

    Args:
        order: The fields of ``trl_arm.Order`` but the folders.
        settings: Where the base is, and where versions go.

    Raises:
        RuntimeError: TRL failed; it has written why.
    """
    TRL.ready()
    out = settings.data_dir / "trl"
    whole = {**order, "base": str(imported_folder(settings).resolve()), "out": str(out)}
    process = subprocess.Popen(
        [TRL.program("python"), "-m", PROGRAM, json.dumps(whole)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if sys.stderr.isatty() else None,
        text=True,
    )
    store, number = AdapterStore(settings.adapters_dir), 0
    base = load_base(settings)
    origin = Origin(BASE, None, "", 0, base.name, base.content_hash, time.time())
    try:
        for line in process.stdout or ():
            if not line.startswith('{"labels"'):
                continue  # a trainer's own chatter, which may be a dict in Python's form
            saved, number = json.loads(line), number + 1
            folder = Path(saved["folder"])
            manifest = store.publish(number, origin, lambda to, at=folder: _copy(at, to))
            yield Learned(saved["labels"], manifest.version, {})
    finally:
        process.kill()
        process.wait()
    if number == 0:
        raise RuntimeError(f"TRL saved no adapter: run {PROGRAM} by itself to see why.")


def _copy(saved: Path, scratch: Path) -> None:
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copyfile(saved / name, scratch / name)
