"""The real API process around a scripted generator: ``python fault_api.py``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "service"))

from fake_generator import FakeGenerator

from service.server import serve
from service.settings import ServiceSettings


class Generator(FakeGenerator):
    """Can load every version that the record knows."""

    async def load(self, version: str) -> None:
        self.available.add(version)
        await super().load(version)


if __name__ == "__main__":
    serve(ServiceSettings(), Generator())
    foreign = {name.partition(".")[0] for name in sys.modules} & {"celery", "kombu", "workers"}
    if "FAULTS_MODULES_FILE" in os.environ:
        Path(os.environ["FAULTS_MODULES_FILE"]).write_text(" ".join(sorted(foreign)))
