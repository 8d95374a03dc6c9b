"""Adapter folders: PEFT's format plus a manifest, published so that a crash never leaves half.

A folder holds ``adapter_config.json``, ``adapter_model.safetensors``, ``learner_state.safetensors``
(optimiser moments) and ``manifest.json``. The version id's hash is over the first two files.

Beside the published folders the root may hold ``.publish-<fence>-…`` (being written), ``.swept-…``
(being removed) and ``damaged-…`` (set aside); none of these is ever read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import AdapterError
from models.failpoints import failpoint
from models.types import BASE
from models.versions import is_version_id, make_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
STATE_FILE = "learner_state.safetensors"
MANIFEST_FILE = "manifest.json"

_SCRATCH, _SWEPT, _DAMAGED = ".publish-", ".swept-", "damaged-"

logger = logging.getLogger(__name__)


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
        version, files = rest.pop("version"), dict(rest.pop("files"))
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

        When this returns, the folder and its name are on the disk. Publishing the same content
        under the same sequence number again changes nothing; a damaged folder of that name is set
        aside and replaced.
        """
        failpoint("publish.before_scratch")
        self._make_root()
        scratch = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{origin.fence}-", dir=self._root))
        try:
            failpoint("publish.begin")
            write_files(scratch)
            files = {p.name: _sha256(p) for p in sorted(scratch.iterdir())}
            version = make_id(sequence, _content_hash(files))
            manifest = Manifest(version=version, origin=origin, files=files)
            (scratch / MANIFEST_FILE).write_text(json.dumps(manifest.as_dict(), indent=2))
            failpoint("publish.files_written")
            _fsync_all([*scratch.iterdir(), scratch])
            failpoint("publish.before_rename")
            self._give_name(scratch, version)
            failpoint("publish.after_rename")
            self._fsync_names()
            failpoint("publish.after_sync")
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

    def find_batch(self, sequence: int, batch_hash: str, parent: str) -> Manifest | None:
        """Return the intact version already published for this run, if there is one.

        A damaged one is set aside, so that its batch can be learned again. The one that is
        returned is on the disk, even if its publisher died before it could see to that.
        """
        for folder in sorted(self._root.glob(f"v{sequence:06d}-*")):
            if not is_version_id(folder.name):
                continue
            try:
                manifest = self.verify(folder.name)
            except AdapterError as error:
                logger.warning("%s Its batch is learned again.", error)
                self._set_aside(folder)
                continue
            if (manifest.origin.batch_hash, manifest.origin.parent) == (batch_hash, parent):
                _fsync_all([*folder.iterdir(), folder])
                self._fsync_names()
                return manifest
        return None

    def published(self) -> list[str]:
        """Return the ids of all published versions, oldest first, damaged ones among them."""
        return sorted(p.name for p in self._root.glob("v*") if is_version_id(p.name))

    def remove(self, version: str) -> None:
        """Remove a version's folder; nobody ever sees half of it."""
        self._sweep(self.path(version))

    def sweep_scratch(self, fence: int) -> None:
        """Remove the scratch folders of publishers with a lower fence, and half-removed folders.

        Such a publisher died, or must not publish any more: without its scratch folder it cannot.
        """
        for folder in self._root.glob(f"{_SCRATCH}*-*"):
            of = folder.name.removeprefix(_SCRATCH).partition("-")[0]
            if of.isdecimal() and 0 < int(of) < fence:
                self._sweep(folder)
        for folder in self._root.glob(f"{_SWEPT}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _make_root(self) -> None:
        missing = [p for p in (self._root, *self._root.parents) if not p.exists()]
        self._root.mkdir(parents=True, exist_ok=True)
        _fsync_all(p.parent for p in missing)

    def _give_name(self, scratch: Path, version: str) -> None:
        """Rename a whole scratch folder to its version's name, unless that is there already."""
        target = self.path(version)
        if target.is_dir():
            try:
                self.verify(version)
            except AdapterError as error:
                logger.warning("%s It is replaced by what was learned again.", error)
                self._set_aside(target)
            else:
                return
        try:
            scratch.replace(target)
        except OSError:
            # Another learner of the same batch may have been quicker with the same content.
            if not target.is_dir():
                raise

    def _set_aside(self, folder: Path) -> None:
        """Keep a damaged folder for whoever wants to look at it, where nobody loads it."""
        aside = Path(tempfile.mkdtemp(prefix=_DAMAGED, dir=self._root)) / folder.name
        folder.replace(aside)
        logger.warning("%s is set aside as %s.", folder, aside)

    def _sweep(self, folder: Path) -> None:
        """Remove a folder under another name: its publisher may be renaming it at this moment."""
        away = folder.with_name(f"{_SWEPT}{folder.name.lstrip('.')}")
        with contextlib.suppress(OSError):
            folder.replace(away)
            shutil.rmtree(away, ignore_errors=True)

    def _fsync_names(self) -> None:
        """Bring the names in the root, and the root's own, to the disk."""
        _fsync_all([self._root, self._root.parent])

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
