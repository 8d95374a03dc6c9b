"""Finds and hashes the base model's files, and lists its layers, without loading it (no torch)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from models.errors import BaseModelError
from models.settings import DEFAULT_BASE_MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.settings import ModelSettings

GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MARKER = "thumbloop-base.json"
_MATRIX = 2


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """The properties of the base that an adapter must match.

    Attributes:
        name: The value of the setting ``base_model``.
        content_hash: The SHA-256 hex digest that adapters for this base carry.
        linears: The output and input size of each linear layer but the head, by module name.
        vocabulary: The number of token ids; None if it is not known.
        context: The most tokens that it was made for; None if it does not say.
    """

    name: str
    content_hash: str
    linears: Mapping[str, tuple[int, int]]
    vocabulary: int | None = None
    context: int | None = None


def imported_folder(settings: ModelSettings) -> Path:
    """Return the folder of the imported packaged base, which may not exist yet."""
    return settings.data_dir / "base" / f"{DEFAULT_BASE_MODEL}-{GGUF_SHA256[:12]}"


def is_ready(settings: ModelSettings) -> bool:
    """Return whether ``load_base`` can start without an import."""
    if settings.base_model != DEFAULT_BASE_MODEL:
        return True
    return (imported_folder(settings) / MARKER).is_file()


def base_facts(settings: ModelSettings) -> BaseFacts:
    """Read the base's configuration and the headers of its weights; uses no network.

    Raises:
        BaseModelError: The base is not on this machine, or cannot be read.
    """
    folder, commit = _folder(settings)
    try:
        config = json.loads((folder / "config.json").read_text())
        linears = _linears(folder, config["vocab_size"])
        name = settings.base_model
        digest = folder_hash(folder) if commit is None else hub_hash(name, commit)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BaseModelError(
            f"The base model in {folder} cannot be read: {error}. {mending(settings, str(folder))}"
        ) from error
    return BaseFacts(name, digest, linears, config.get("vocab_size"), _context(config))


def mending(settings: ModelSettings, source: str) -> str:
    """Return what to do with a base that cannot be loaded; only our own import may be deleted."""
    if settings.base_model == DEFAULT_BASE_MODEL:
        return f"Delete {source} to have it imported again."
    return (
        "Set THUMBLOOP_BASE_MODEL to a folder or hub id of a causal language model in safetensors "
        "format."
    )


def folder_hash(folder: Path) -> str:
    """Return the content hash of a base in a local folder, a SHA-256 hex digest."""
    marker = folder / MARKER
    if marker.is_file():
        return str(json.loads(marker.read_text())["source_sha256"])
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def hub_hash(name: str, commit: str) -> str:
    """Return the content hash of a base from a model hub, a SHA-256 hex digest."""
    return hashlib.sha256(f"{name}@{commit}".encode()).hexdigest()


def _folder(settings: ModelSettings) -> tuple[Path, str | None]:
    """Return the folder of the base's files, and its commit if it is from a hub."""
    if settings.base_model == DEFAULT_BASE_MODEL:
        if not is_ready(settings):
            raise BaseModelError(
                "The base model is not imported yet: run `thumbloop models import`."
            )
        return imported_folder(settings), None
    folder = Path(settings.base_model)
    if folder.is_dir():
        return folder, None
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - seldom, and slow to import

    cached = try_to_load_from_cache(settings.base_model, "config.json")
    if not isinstance(cached, str):
        raise BaseModelError(
            f"The base model {settings.base_model!r} was not downloaded yet: start the server once."
        )
    snapshot = Path(cached).parent
    return snapshot, snapshot.name


def _context(config: Mapping[str, Any]) -> int | None:
    found = config.get("max_position_embeddings")
    return found if isinstance(found, int) else None


def _linears(folder: Path, words: int) -> dict[str, tuple[int, int]]:
    """Return the linear layers: all matrices but those with a row for each vocabulary entry."""
    found: dict[str, tuple[int, int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                shape = file.get_slice(name).get_shape()
                if name.endswith(".weight") and len(shape) == _MATRIX and shape[0] != words:
                    found[name.removesuffix(".weight")] = (shape[0], shape[1])
    if not found:
        raise ValueError("it has no weights in safetensors format")
    return found
