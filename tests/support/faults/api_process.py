"""The real API around a fake generator: ``python -m tests.support.faults.api_process``."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from models.adapters import AdapterStore
from service.app.server import serve
from service.settings import ServiceSettings
from tests.support.faults.access_log import note_touched
from tests.support.generators.fake import FakeGenerator


class Generator(FakeGenerator):
    """Can load every version that the record knows.

    Args:
        adapters: Where each one is checked first, as the real engine does; None for nowhere.
    """

    def __init__(self, adapters: AdapterStore | None) -> None:
        super().__init__()
        self._adapters = adapters

    async def load(self, version: str) -> None:
        if self._adapters is not None and version not in self.loaded():
            await asyncio.to_thread(self._adapters.fetch, version)
        self.available.add(version)
        await super().load(version)


if __name__ == "__main__":
    note_touched()
    settings = ServiceSettings()
    checked = AdapterStore.open(settings) if "FAULTS_ADAPTERS" in os.environ else None
    serve(settings, Generator(checked))
    foreign = {name.partition(".")[0] for name in sys.modules} & {"celery", "kombu", "workers"}
    if "FAULTS_MODULES_FILE" in os.environ:
        Path(os.environ["FAULTS_MODULES_FILE"]).write_text(" ".join(sorted(foreign)))
