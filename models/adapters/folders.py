"""Adapter folders on this machine, published so that a crash never leaves half.

A folder holds ``adapter_config.json``, ``adapter_model.safetensors``, ``learner_state.safetensors``
(optimiser moments) and ``manifest.json``. The version id's hash is over the first two files.

Beside the published folders the root may hold ``.publish-<fence>-…`` (being written), ``.fetch-…``
(being downloaded), ``.import-…`` (being checked), ``.swept-…`` (being removed) and ``damaged-…``
(set aside); none of these is ever read. ``removed/<version>.json`` is the manifest of a version
whose weights were removed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from models.adapters.manifest import (
    CONFIG_FILE,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    Manifest,
    Origin,
    content_hash,
)
from models.disk import fsync_all, sha256, write_atomically
from models.errors import AdapterError
from models.failpoints import failpoint
from models.types import BASE
from models.versions import is_version_id, make_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REMOVED = "removed"
_SCRATCH, _FETCHED, _CHECKED, _SWEPT, _DAMAGED = (
    ".publish-",
    ".fetch-",
    ".import-",
    ".swept-",
    "damaged-",
)
_DEAD_SECONDS = 86_400.0
"""A scratch folder that carries no fence is a dead process's once it is this old."""

logger = logging.getLogger(__name__)


class Folders:
    """The folder of published adapters; a published folder never changes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, version: str) -> Path:
        """Return the folder of a version, which need not exist.

        Raises:
            AdapterError: ``version`` is not the id of an adapter; no path is made from it.
        """
        if version == BASE or not is_version_id(version):
            raise AdapterError(f"{version!r} is not an adapter's id like v000012-3fa9c1d2e4b7.")
        return self.root / version

    def publish(
        self, sequence: int, origin: Origin, write_files: Callable[[Path], None]
    ) -> Manifest:
        """Publish what ``write_files`` writes into a scratch folder, all or nothing.

        When this returns, the folder and its name are on the disk. Publishing the same content
        under the same sequence number again changes nothing; a damaged folder of that name is set
        aside and replaced.
        """
        failpoint("publish.before_scratch")
        with self._scratch(f"{_SCRATCH}{origin.fence}-") as scratch:
            failpoint("publish.begin")
            write_files(scratch)
            files = {p.name: sha256(p) for p in sorted(scratch.iterdir())}
            version = make_id(sequence, content_hash(files))
            manifest = Manifest(version=version, origin=origin, files=files)
            (scratch / MANIFEST_FILE).write_text(json.dumps(manifest.as_dict(), indent=2))
            failpoint("publish.files_written")
            fsync_all([*scratch.iterdir(), scratch])
            failpoint("publish.before_rename")
            self._give_name(scratch, version)
            failpoint("publish.after_rename")
            self._fsync_names()
            failpoint("publish.after_sync")
        return self.verify(version)

    def adopt(self, version: str, fill: Callable[[Path], None]) -> Manifest:
        """Take a folder that ``fill`` brings from elsewhere, once it was checked.

        It replaces a damaged one; nobody ever sees half of it. Only one process may do so at a
        time.

        Raises:
            AdapterError: What was brought is not the whole, unaltered version.
        """
        for dead in self.root.glob(f"{_FETCHED}*"):
            shutil.rmtree(dead, ignore_errors=True)
        with self._scratch(_FETCHED) as scratch:
            fill(scratch)
            manifest = check_folder(scratch, version)
            self.sweep(self.path(version))
            scratch.replace(self.path(version))
        return manifest

    def checking(self) -> contextlib.AbstractContextManager[Path]:
        """Return a scratch folder for an import, which is gone at the end of the block."""
        return self._scratch(_CHECKED)

    def temporary(self) -> BinaryIO:
        """Return a file that is gone once it is closed, or swept if this process is killed."""
        self._make_root()
        return tempfile.NamedTemporaryFile(prefix=_CHECKED, dir=self.root)  # type: ignore[return-value]

    def verify(self, version: str) -> Manifest:
        """Read a version's manifest and check every file against it.

        Raises:
            AdapterError: The folder is missing, incomplete, altered, or holds a link.
        """
        folder = self.path(version)
        if not folder.exists() and self._kept(version).exists():
            raise AdapterError(were_removed(version))
        return check_folder(folder, version)

    def find_batch(self, sequence: int, batch_hash: str, parent: str) -> Manifest | None:
        """Return the intact version already published for this run, if there is one.

        A damaged one is set aside, so that its batch can be learned again. The one that is
        returned is on the disk, even if its publisher died before it could see to that.
        """
        for folder in sorted(self.root.glob(f"v{sequence:06d}-*")):
            if not is_version_id(folder.name):
                continue
            try:
                manifest = self.verify(folder.name)
            except AdapterError as error:
                logger.warning("%s Its batch is learned again.", error)
                self._set_aside(folder)
                continue
            if (manifest.origin.batch_hash, manifest.origin.parent) == (batch_hash, parent):
                fsync_all([*folder.iterdir(), folder])
                self._fsync_names()
                return manifest
        return None

    def published(self) -> list[str]:
        """Return the ids of all published versions, oldest first, damaged ones among them."""
        return sorted(p.name for p in self.root.glob("v*") if is_version_id(p.name))

    def remove(self, version: str) -> None:
        """Remove a version's folder; nobody ever sees half of it."""
        self.sweep(self.path(version))

    def retire(self, version: str, manifest: bytes) -> None:
        """Keep a version's manifest, and remove its folder."""
        kept = self._kept(version)
        self._make_root()
        kept.parent.mkdir(exist_ok=True)
        write_atomically(kept, manifest)
        fsync_all([self.root])
        self.remove(version)

    def sweep_scratch(self, fence: int) -> None:
        """Remove the scratch folders of publishers with a lower fence, and what others left.

        Such a publisher died, or must not publish any more: without its scratch folder it cannot.
        """
        for folder in self.root.glob(f"{_SCRATCH}*-*"):
            of = folder.name.removeprefix(_SCRATCH).partition("-")[0]
            if of.isdecimal() and (0 < int(of) < fence or (int(of) == 0 and _is_dead(folder))):
                self.sweep(folder)
        for folder in self.root.glob(f"{_CHECKED}*"):
            if _is_dead(folder):
                self.sweep(folder)
        for folder in self.root.glob(f"{_SWEPT}*"):
            _destroy(folder)

    def sweep(self, folder: Path) -> None:
        """Remove a folder under another name: its publisher may be renaming it at this moment."""
        away = folder.with_name(f"{_SWEPT}{folder.name.lstrip('.')}")
        with contextlib.suppress(OSError):
            _destroy(away)
            folder.replace(away)
            _destroy(away)

    @contextlib.contextmanager
    def _scratch(self, prefix: str) -> Iterator[Path]:
        self._make_root()
        scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=self.root))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _make_root(self) -> None:
        missing = [p for p in (self.root, *self.root.parents) if not p.exists()]
        self.root.mkdir(parents=True, exist_ok=True)
        fsync_all(p.parent for p in missing)

    def _kept(self, version: str) -> Path:
        return self.root / REMOVED / f"{self.path(version).name}.json"

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
        """Move a damaged folder to where nothing loads it, for whoever wants to examine it."""
        aside = Path(tempfile.mkdtemp(prefix=_DAMAGED, dir=self.root)) / folder.name
        folder.replace(aside)
        logger.warning("%s is set aside as %s.", folder, aside)

    def _fsync_names(self) -> None:
        """Bring the names in the root, and the root's own, to the disk."""
        fsync_all([self.root, self.root.parent])


def check_folder(folder: Path, version: str) -> Manifest:
    """Read a folder's manifest and check every file against it.

    Raises:
        AdapterError: The folder is missing, incomplete, altered, not this version, or holds a link.
    """
    manifest = read_manifest(folder)
    if not is_version_id(version):
        raise AdapterError(f"{version[:100]!r} is not a version id.")
    if manifest.version != version:
        raise AdapterError(f"{folder} says that it is {manifest.version}: it was renamed.")
    if not {CONFIG_FILE, WEIGHTS_FILE} <= manifest.files.keys():
        raise AdapterError(f"{folder} has no {CONFIG_FILE} and {WEIGHTS_FILE}.")
    for name, expected in manifest.files.items():
        check_file(folder, name, expected)
    if make_id(0, content_hash(manifest.files))[8:] != version[8:]:
        raise AdapterError(f"{folder}: the content is not that of {version}.")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        AdapterError: There is none that can be read, or it is elsewhere.
    """
    path = folder / MANIFEST_FILE
    if folder.is_symlink() or path.is_symlink():
        raise AdapterError(f"{path} leads out of its folder: refused.")
    try:
        return Manifest.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdapterError(
            f"{folder} has no readable {MANIFEST_FILE}: restore the folder from a backup, or "
            "activate another version."
        ) from error


def check_file(folder: Path, name: str, expected: str) -> None:
    """Check one file of a folder against its SHA-256.

    Raises:
        AdapterError: It is missing, altered, a link, or elsewhere.
    """
    path = folder / name
    if Path(name).name != name or folder.is_symlink() or path.is_symlink():
        raise AdapterError(f"{path} leads out of its folder: refused.")
    if not path.is_file():
        raise AdapterError(f"{path} is missing: restore the folder from a backup.")
    if sha256(path) != expected:
        raise AdapterError(
            f"{path} was altered (its SHA-256 is not the manifest's): restore it from a backup."
        )


def were_removed(version: str) -> str:
    """Say that a version's weights are gone on purpose."""
    return (
        f"{version}: its weights were removed after THUMBLOOP_KEEP_VERSIONS newer versions; only "
        "its manifest is kept. Activate another version, or import this one from a backup."
    )


def _destroy(path: Path) -> None:
    """Remove a scratch folder or file, whatever of it is still there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_dead(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > _DEAD_SECONDS
    except OSError:
        return False
