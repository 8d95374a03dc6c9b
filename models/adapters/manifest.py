"""What an adapter folder is made of, and what its manifest says; values only, no files."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
STATE_FILE = "learner_state.safetensors"
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a version comes from: everything in its manifest but the files.

    Attributes:
        parent: The version that it was learned from; ``base`` for an import.
        run: The update run that made it; None for an import.
        batch_hash: Hash of the votes that it learned from; empty for an import.
        fence: Fencing token of the learner that made it; 0 for an import.
        base_model: Name of the base model that it adapts.
        base_hash: Content hash of that base.
        created_at: Epoch seconds.
        kind: Whether it was learned here, or imported.
        source: What an import was called where it came from: a version id or a file's name.
        figures: What its update measured, JSON-able.
    """

    parent: str
    run: int | None
    batch_hash: str
    fence: int
    base_model: str
    base_hash: str
    created_at: float
    kind: Literal["learned", "imported"] = "learned"
    source: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a published folder says of itself; ``files`` maps names to SHA-256 hex digests."""

    version: str
    origin: Origin
    files: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return a flat JSON-able form; ``from_dict`` reads it."""
        return {
            "version": self.version,
            **asdict(self.origin),
            "figures": jsonable(self.origin.figures),
            "files": dict(self.files),
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Manifest:
        """Read what ``as_dict`` wrote.

        Raises:
            KeyError, TypeError, ValueError: It is none.
        """
        rest = dict(raw)
        version, files = rest.pop("version"), dict(rest.pop("files"))
        if not all(isinstance(part, str) for part in (version, *files, *files.values())):
            raise TypeError("The manifest's version and files are not text.")
        return cls(version=version, origin=Origin(**rest), files=files)


def content_hash(files: Mapping[str, str]) -> str:
    """Return the hash that a version is named by, of its weights and configuration.

    Args:
        files: SHA-256 hex digests by name.
    """
    joined = files[WEIGHTS_FILE] + files[CONFIG_FILE]
    return hashlib.sha256(joined.encode()).hexdigest()


def jsonable(value: Any) -> Any:
    """Return figures with None for numbers that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): jsonable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(each) for each in value]
    return value
