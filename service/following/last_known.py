"""What the service last knew from Redis, kept in the data folder for a start without Redis."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from models.disk import write_atomically
from models.versions import is_version_id

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


class LastKnown:
    """The file ``live.json``: the live version, and whether API keys were in use."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "live.json"
        self._facts = self._read()
        self._unwritten = False

    @property
    def live(self) -> str | None:
        """The last version that was live here and could be loaded."""
        live = self._facts.get("live")
        return live if isinstance(live, str) and is_version_id(live) else None

    @property
    def keyed(self) -> bool | None:
        """Whether API keys existed; None when that was never known."""
        keyed = self._facts.get("keyed")
        return keyed if isinstance(keyed, bool) else None

    def remember(self, **facts: str | bool) -> None:
        """Store what changed; the file is replaced in one step.

        Where it cannot be written, only a start without Redis is worse for it; it is tried again
        with the next fact, new or not.
        """
        news = any(self._facts.get(name) != value for name, value in facts.items())
        if not news and not self._unwritten:
            return
        self._facts |= facts
        try:
            self._write()
        except OSError as error:
            self._unwritten = True
            if news:
                log.warning("%s cannot be written, so a restart forgets it: %s", self._path, error)
        else:
            self._unwritten = False

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, json.dumps(self._facts).encode())

    def _read(self) -> dict[str, Any]:
        try:
            facts = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}
