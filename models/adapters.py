"""Adapter folders: PEFT's format plus a manifest, published so that a crash never leaves half.

A folder holds ``adapter_config.json``, ``adapter_model.safetensors``, ``learner_state.safetensors``
(optimiser moments) and ``manifest.json``. The version id's hash is over the first two files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import AdapterError
from models.types import BASE
from models.versions import is_version_id, make_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
STATE_FILE = "learner_state.safetensors"
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a version comes from: everything in its manifest but the files."""

    parent: str
    run: int | None
    batch_hash: str
    fence: int
    base_model: str
    base_hash: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a published folder says of itself; ``files`` maps names to SHA-256 hex digests."""

    version: str
    origin: Origin
    files: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return a flat JSON-able form; ``from_dict`` reads it."""
        return {"version": self.version, **asdict(self.origin), "files": dict(self.files)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Manifest:
        """Read what ``as_dict`` wrote."""
        rest = dict(raw)
        version, files = rest.pop("version"), rest.pop("files")
        return cls(version=version, origin=Origin(**rest), files=files)


class AdapterStore:
    """The folder of published adapters; a published folder never changes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, version: str) -> Path:
        """Return the folder of a version, which need not exist.

        Raises:
            AdapterError: ``version`` is not the id of an adapter; no path is made from it.
        """
        if version == BASE or not is_version_id(version):
            raise AdapterError(f"{version!r} is not an adapter's id like v000012-3fa9c1d2e4b7.")
        return self._root / version

    def publish(
        self, sequence: int, origin: Origin, write_files: Callable[[Path], None]
    ) -> Manifest:
        """Publish what ``write_files`` writes into a scratch folder, all or nothing.

        Publishing the same content under the same sequence number again changes nothing.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".publish-", dir=self._root))
        try:
            write_files(scratch)
            files = {p.name: _sha256(p) for p in sorted(scratch.iterdir())}
            version = make_id(sequence, _content_hash(files))
            manifest = Manifest(version=version, origin=origin, files=files)
            (scratch / MANIFEST_FILE).write_text(json.dumps(manifest.as_dict(), indent=2))
            _fsync_all([*scratch.iterdir(), scratch])
            if not self.path(version).is_dir():
                scratch.replace(self.path(version))
                _fsync_all([self._root])
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return self.verify(version)

    def verify(self, version: str) -> Manifest:
        """Read a version's manifest and check every file against it.

        Raises:
            AdapterError: The folder is missing, incomplete, altered, or holds a link.
        """
        folder = self.path(version)
        manifest = self._read_manifest(folder)
        if manifest.version != version:
            raise AdapterError(f"{folder} says that it is {manifest.version}: it was renamed.")
        if not {CONFIG_FILE, WEIGHTS_FILE} <= manifest.files.keys():
            raise AdapterError(f"{folder} has no {CONFIG_FILE} and {WEIGHTS_FILE}.")
        for name, expected in manifest.files.items():
            _check_file(folder, name, expected)
        if make_id(0, _content_hash(manifest.files))[8:] != version[8:]:
            raise AdapterError(f"{folder}: the content is not that of {version}.")
        return manifest

    def find_batch(self, sequence: int, batch_hash: str) -> Manifest | None:
        """Return the intact version already published for this run, if there is one."""
        for folder in sorted(self._root.glob(f"v{sequence:06d}-*")):
            manifest = self.verify(folder.name)
            if manifest.origin.batch_hash == batch_hash:
                return manifest
        return None

    @staticmethod
    def _read_manifest(folder: Path) -> Manifest:
        try:
            return Manifest.from_dict(json.loads((folder / MANIFEST_FILE).read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AdapterError(
                f"{folder} has no readable {MANIFEST_FILE}: restore the folder from a backup, or "
                "activate another version."
            ) from error


def _check_file(folder: Path, name: str, expected: str) -> None:
    path = folder / name
    if Path(name).name != name or folder.is_symlink() or path.is_symlink():
        raise AdapterError(f"{path} leads out of its folder: refused.")
    if not path.is_file():
        raise AdapterError(f"{path} is missing: restore the folder from a backup.")
    if _sha256(path) != expected:
        raise AdapterError(
            f"{path} was altered (its SHA-256 is not the manifest's): restore it from a backup."
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content_hash(files: dict[str, str]) -> str:
    joined = files[WEIGHTS_FILE] + files[CONFIG_FILE]
    return hashlib.sha256(joined.encode()).hexdigest()


def _fsync_all(paths: Iterable[Path]) -> None:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
