"""Somebody at a command line, and behind it the record that the commands change."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typer.testing import CliRunner

from feedback.settings import FeedbackSettings
from feedback.store import Store
from models.adapters import CONFIG_FILE, WEIGHTS_FILE, AdapterStore, Origin
from service.cli import app

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from redis import Redis
    from typer.testing import Result


@dataclass
class Operator:
    """Somebody at a command line."""

    data_dir: Path
    redis_url: str
    raw_redis: Redis

    def run(self, *words: str, code: int = 0) -> Result:
        """Run a command that must end with ``code``."""
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == code, (result.output, result.exception)
        return result

    def ask(self, *words: str, code: int = 0) -> Any:
        """Run a command with ``--json`` and return what it prints."""
        return json.loads(self.run(*words, "--json", code=code).stdout)

    def in_store(self, use: Callable[[Store], Awaitable[Any]]) -> Any:
        """Do something with the record."""

        async def call() -> Any:
            store = Store.connect(self.redis_url, FeedbackSettings(data_dir=self.data_dir))
            try:
                return await use(store)
            finally:
                await store.close()

        return asyncio.run(call())

    def add_version(self, sequence: int) -> str:
        """Publish an adapter's folder and record it as approved."""

        def write(folder: Path) -> None:
            (folder / CONFIG_FILE).write_text("{}")
            (folder / WEIGHTS_FILE).write_bytes(bytes([sequence]))

        origin = Origin("base", None, "", 0, "fake", "0" * 64, 1.0)
        manifest = AdapterStore(self.data_dir / "adapters").publish(sequence, origin, write)
        self.in_store(
            lambda store: store.versions.add(
                manifest.version,
                parent="base",
                manifest=manifest.as_dict(),
                state="approved",
                now=float(sequence),
            )
        )
        return manifest.version
