"""The adapter store: folders on this machine, and the object store that they are a cache of."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from models.adapters.archives import take_files
from models.adapters.exporting import write_archive, write_export
from models.adapters.folders import Folders, were_removed
from models.adapters.importing import check_import, move_files, origin_of
from models.adapters.manifest import MANIFEST_FILE
from models.adapters.objects import ObjectStore
from models.errors import AdapterError, AdapterStoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from models.adapters.checks import AdapterRequirements
    from models.adapters.exporting import Form
    from models.adapters.importing import CheckedAdapter
    from models.adapters.manifest import Manifest, Origin
    from models.settings import ModelSettings

_LOCK = ".fetch.lock"
_LOCK_SECONDS = 600.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PendingImport:
    """An adapter from elsewhere that was checked, and is not published yet."""

    store: AdapterStore
    folder: Path
    checked: CheckedAdapter
    wanted: AdapterRequirements
    name: str

    def publish(self, sequence: int, now: float) -> Manifest:
        """Publish it under a sequence number, at ``now`` (epoch seconds)."""
        origin = origin_of(self.checked, self.wanted, name=self.name, now=now)
        return self.store.publish(sequence, origin, lambda out: move_files(self.folder, out))


class AdapterStore:
    """Every published adapter; a published one never changes.

    Args:
        root: The folder of adapters on this machine.
        objects: The object store that holds them for all machines; None where the folder does.
    """

    def __init__(self, root: Path, objects: ObjectStore | None = None) -> None:
        self._root = root
        self._folders = Folders(root)
        self._objects = objects

    @classmethod
    def open(cls, settings: ModelSettings) -> AdapterStore:
        """Return the store that the settings name; an object store is not asked yet.

        Raises:
            AdapterError: No package here speaks to such an object store.
        """
        url = settings.adapters_url
        return cls(settings.adapters_dir, ObjectStore.open(url) if url else None)

    def path(self, version: str) -> Path:
        """Return the folder of a version on this machine, which need not exist.

        Raises:
            AdapterError: ``version`` is not the id of an adapter; no path is made from it.
        """
        return self._folders.path(version)

    def fetch(self, version: str) -> Path:
        """Return the whole, checked folder of a version; it is downloaded if need be.

        Raises:
            AdapterError: It is missing, incomplete, altered, or holds a link.
            AdapterStoreUnavailableError: It must be downloaded, and the store does not answer.
        """
        self.verify(version)
        return self.path(version)

    def verify(self, version: str) -> Manifest:
        """Read a version's manifest and check every file against it, as ``fetch`` does.

        Raises:
            AdapterError: It is missing, incomplete, altered, or holds a link.
            AdapterStoreUnavailableError: It must be downloaded, and the store does not answer.
        """
        self.path(version)
        try:
            return self._folders.verify(version)
        except AdapterError:
            if self._objects is None:
                raise
        return self._download(version, self._objects)

    def publish(
        self, sequence: int, origin: Origin, write_files: Callable[[Path], None]
    ) -> Manifest:
        """Publish what ``write_files`` writes into a scratch folder, all or nothing.

        When this returns, the folder and its name are on the disk, and in the object store where
        there is one. Publishing the same content under the same sequence number again changes
        nothing; a damaged folder of that name is set aside and replaced.

        Raises:
            AdapterStoreUnavailableError: The object store does not answer. The folder stays on this
                machine; ``find_batch`` uploads it.
        """
        manifest = self._folders.publish(sequence, origin, write_files)
        self._upload(manifest)
        return manifest

    def find_batch(self, sequence: int, batch_hash: str, parent: str) -> Manifest | None:
        """Return the intact version already published for this run, if there is one.

        A damaged one is set aside, so that its batch can be learned again. The one that is
        returned is on the disk and in the object store, even if its publisher died before it could
        see to that.
        """
        if self._objects is not None:
            for version in sorted(self._objects.listing().published):
                if version.startswith(f"v{sequence:06d}-"):
                    self._try_to_fetch(version)
        manifest = self._folders.find_batch(sequence, batch_hash, parent)
        if manifest is not None:
            self._upload(manifest)
        return manifest

    def published(self) -> list[str]:
        """Return the ids of all published versions, oldest first, damaged ones among them."""
        known = set(self._folders.published())
        if self._objects is not None:
            there = self._objects.listing()
            known = known - there.removed | there.published
        return sorted(known)

    def remove(self, version: str) -> None:
        """Remove a version; nobody ever takes what is left of it for whole."""
        self.path(version)
        if self._objects is not None:
            self._objects.remove(version)
        self._folders.remove(version)

    def keep(self, needed: Collection[str], last: int) -> list[str]:
        """Remove old versions but for their manifests; return which.

        Args:
            needed: Versions that stay, however old.
            last: So many of the newest stay too; at least 1.
        """
        known = self.published()
        old = [version for version in known[:-last] if version not in needed]
        for version in old:
            self._retire(version)
        return old

    def sweep_scratch(self, fence: int) -> None:
        """Remove what publishers with a lower fence, and other dead processes, left half done."""
        self._folders.sweep_scratch(fence)
        if self._objects is not None:
            self._objects.sweep()

    def temporary(self) -> BinaryIO:
        """Return a file for an archive; it is gone once it is closed."""
        return self._folders.temporary()

    @contextlib.contextmanager
    def importing(
        self,
        source: Path,
        wanted: AdapterRequirements,
        *,
        name: str = "",
        follow_links: bool = False,
    ) -> Iterator[PendingImport]:
        """Check an adapter folder or archive, which can be published within the block.

        Args:
            source: A folder in PEFT's format, or a ``.tar.gz``, ``.tar`` or ``.zip`` of one.
            wanted: What it must fit.
            name: What the manifest says that it was called; the source's name by default.
            follow_links: Whether a folder's files may be links, as in a hub's cache.

        Raises:
            ImportRefusedError: It is no adapter for the base that is served here, or not safe.
        """
        with self._folders.checking() as folder:
            take_files(source, folder, wanted.max_bytes, called=name, follow_links=follow_links)
            checked = check_import(folder, wanted)
            yield PendingImport(self, folder, checked, wanted, name or source.name)

    def export(self, version: str, target: Path, *, state: bool = True) -> None:
        """Write a version as a folder, ``.tar.gz``, ``.tar`` or ``.zip``, all or nothing.

        The same version makes the same bytes each time.

        Args:
            version: What to write.
            target: A path that is not there yet; its ending chooses the form.
            state: Whether the learner's state goes with it.

        Raises:
            AdapterError: The version cannot be had, or the target is there already.
        """
        write_export(self.fetch(version), target, state=state)

    def write_archive(self, version: str, form: Form, out: BinaryIO, *, state: bool = True) -> None:
        """Write a version's archive into an open file.

        Raises:
            AdapterError: The version cannot be had.
        """
        write_archive(self.fetch(version), form, out, state=state)

    def _upload(self, manifest: Manifest) -> None:
        if self._objects is not None:
            folder = self.path(manifest.version)
            self._objects.publish(manifest.version, folder, manifest)

    def _try_to_fetch(self, version: str) -> None:
        try:
            self.verify(version)
        except AdapterError as error:
            logger.warning("%s", error)

    def _download(self, version: str, objects: ObjectStore) -> Manifest:
        """Bring a version here, unless another process is quicker."""
        self._root.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._root / _LOCK, timeout=_LOCK_SECONDS):
                return self._download_alone(version, objects)
        except Timeout as error:
            raise AdapterStoreUnavailableError(
                f"Another process has been downloading adapters into {self._root} for "
                f"{_LOCK_SECONDS:.0f} s: check whether it hangs."
            ) from error

    def _download_alone(self, version: str, objects: ObjectStore) -> Manifest:
        try:
            return self._folders.verify(version)
        except AdapterError:
            there = objects.listing()
        if version in there.removed - there.published:
            raise AdapterError(were_removed(version))
        manifest = self._folders.adopt(version, lambda folder: objects.download(version, folder))
        for gone in there.removed - there.published:
            self._folders.remove(gone)
        return manifest

    def _retire(self, version: str) -> None:
        raw = self._manifest_of(version)
        if raw is None:  # too damaged to say what it was; the record knows
            self.remove(version)
            return
        if self._objects is not None:
            self._objects.retire(version, raw)
        self._folders.retire(version, raw)

    def _manifest_of(self, version: str) -> bytes | None:
        """Return a version's manifest as it is stored, here or there."""
        with contextlib.suppress(OSError):
            return (self.path(version) / MANIFEST_FILE).read_bytes()
        return self._objects.manifest(version) if self._objects is not None else None
