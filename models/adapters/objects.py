"""Adapters in an object store, through fsspec: S3 and whatever else fsspec speaks to.

``<prefix>/<version>/`` holds the same files as a folder on a disk. A version is published by its
manifest, which is written last and removed first: what has none does not exist. An object store
writes each object whole or not at all; where another store does not, the reader's hashes show it.
``<prefix>/removed/<version>.json`` is the manifest of a version whose weights were removed.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.adapters.folders import REMOVED
from models.adapters.manifest import MANIFEST_FILE, Manifest
from models.errors import AdapterError, AdapterStoreUnavailableError
from models.types import BASE
from models.versions import is_version_id

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 20
MAX_MANIFEST_BYTES = 4 << 20
ABANDONED_SECONDS = 86_400.0
"""Objects without a manifest are a dead publisher's once the newest is this old."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What an object store holds, by version: published ones, removed ones, and beginnings."""

    published: frozenset[str]
    removed: frozenset[str]
    partial: frozenset[str]


class ObjectStore:
    """The versions below one prefix of an object store; a published one never changes.

    Args:
        files: fsspec's file system.
        root: The prefix as that file system names it, such as ``bucket/prefix``.
    """

    def __init__(self, files: Any, root: str) -> None:
        self._files = files
        self._root = root.rstrip("/")

    @classmethod
    def open(cls, url: str) -> ObjectStore:
        """Return the store behind a URL such as ``s3://bucket/prefix``; it is not asked yet.

        Raises:
            AdapterError: No package here speaks to such a store.
        """
        import fsspec  # noqa: PLC0415 - only where an object store is used

        try:
            files, root = fsspec.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        except (ImportError, ValueError) as error:
            raise AdapterError(
                f"THUMBLOOP_ADAPTER_STORE={url} cannot be used: {error}. For S3, install the extra "
                "`s3` (pip install 'thumbloop[s3]'); or name a local folder."
            ) from error
        files.auto_mkdir = True  # of a shared folder; object stores have no folders to make
        return cls(files, root)

    def publish(self, version: str, folder: Path, manifest: Manifest) -> None:
        """Upload a whole folder; a version that is there already, and whole, stays as it is.

        Raises:
            AdapterStoreUnavailableError: The store does not answer.
        """
        with self._asked():
            if self._is_whole(version):
                return
            for name in (*sorted(manifest.files), MANIFEST_FILE):
                self._files.put_file(str(folder / name), self._path(version, name))

    def download(self, version: str, folder: Path) -> None:
        """Download a version into an empty folder; whoever asked must check it.

        Raises:
            AdapterError: The version is not there, or its manifest cannot be read.
            AdapterStoreUnavailableError: The store does not answer.
        """
        with self._asked():
            raw = self._read(version, MANIFEST_FILE)
            if raw is None:
                raise AdapterError(
                    f"{self._path(version)} has no {MANIFEST_FILE}: restore it from a backup, or "
                    "activate another version."
                )
            for name in _files(raw, self._path(version)):
                self._files.get_file(self._path(version, name), str(folder / name))
            (folder / MANIFEST_FILE).write_bytes(raw)

    def manifest(self, version: str) -> bytes | None:
        """Return the manifest of a published version as it is stored; None when there is none.

        Raises:
            AdapterStoreUnavailableError: The store does not answer.
        """
        with self._asked():
            return self._read(version, MANIFEST_FILE)

    def listing(self) -> Listing:
        """Return what there is.

        Raises:
            AdapterStoreUnavailableError: The store does not answer.
        """
        with self._asked():
            names = [p.removeprefix(self._root).strip("/").split("/") for p in self._find("")]
        pairs = [(first, last) for first, last in (n for n in names if len(n) == 2)]  # noqa: PLR2004
        versions = {first for first, _ in pairs if _is_adapter(first)}
        published = {first for first, last in pairs if last == MANIFEST_FILE} & versions
        removed = {last.removesuffix(".json") for first, last in pairs if first == REMOVED}
        return Listing(
            frozenset(published),
            frozenset(filter(_is_adapter, removed)),
            frozenset(versions - published),
        )

    def remove(self, version: str) -> None:
        """Remove a version, its manifest first: nobody ever takes what is left for whole.

        Raises:
            AdapterStoreUnavailableError: The store does not answer.
        """
        with self._asked():
            first = self._path(version, MANIFEST_FILE)
            for path in sorted(self._find(version), key=lambda path: path != first):
                self._files.rm_file(path)

    def retire(self, version: str, manifest: bytes) -> None:
        """Keep a version's manifest, and remove the version.

        Raises:
            AdapterStoreUnavailableError: The store does not answer.
        """
        with self._asked():
            self._files.pipe_file(self._path(REMOVED, f"{version}.json"), manifest)
        self.remove(version)

    def sweep(self) -> None:
        """Remove what publishers left that died before they wrote the manifest.

        Raises:
            AdapterStoreUnavailableError: The store does not answer.
        """
        for version in sorted(self.listing().partial):
            with self._asked():
                times = [self._files.modified(p).timestamp() for p in self._find(version)]
            if times and time.time() - max(times) > ABANDONED_SECONDS:
                self.remove(version)

    def _is_whole(self, version: str) -> bool:
        """Whether a version is there with all that its manifest says; it is read for that."""
        raw = self._read(version, MANIFEST_FILE)
        if raw is None:
            return False
        try:
            files = _files(raw, self._path(version))
            return all(self._digest(version, name) == found for name, found in files.items())
        except (AdapterError, FileNotFoundError):
            return False

    def _digest(self, version: str, name: str) -> str:
        with self._files.open(self._path(version, name), "rb") as file:
            digest = hashlib.sha256()
            while some := file.read(_CHUNK):
                digest.update(some)
        return digest.hexdigest()

    def _path(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    def _find(self, under: str) -> list[str]:
        """Return the paths of all objects below a folder, in order."""
        try:
            return sorted(self._files.find(self._path(under).rstrip("/")))
        except FileNotFoundError:
            return []

    def _read(self, version: str, name: str) -> bytes | None:
        """Return a small object; None when it is not there."""
        try:
            found: bytes = self._files.cat_file(
                self._path(version, name), start=0, end=MAX_MANIFEST_BYTES
            )
        except FileNotFoundError:
            return None
        return found

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Turn whatever a file system raises into one error; each has its own."""
        try:
            yield
        except (AdapterError, AdapterStoreUnavailableError):
            raise
        except FileNotFoundError as error:
            raise AdapterError(
                f"{error.args[0] if error.args else error} is missing from the adapter store: "
                "restore it from a backup, or activate another version."
            ) from error
        except Exception as error:
            raise AdapterStoreUnavailableError(
                f"The adapter store {self._root} does not answer as it should "
                f"({type(error).__name__}: {error}). Check that it runs, that "
                "THUMBLOOP_ADAPTER_STORE is right, and that the keys to it are set."
            ) from error


def _files(raw: bytes, where: str) -> dict[str, str]:
    """Return the files that a manifest names, with their SHA-256.

    Raises:
        AdapterError: It cannot be read, or names a path.
    """
    try:
        files = Manifest.from_dict(json.loads(raw)).files
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdapterError(
            f"{where} has no readable {MANIFEST_FILE}: restore it from a backup."
        ) from error
    for name in files:
        if Path(name).name != name:
            raise AdapterError(f"{where}/{name} leads out of its folder: refused.")
    return files


def _is_adapter(name: str) -> bool:
    return name != BASE and is_version_id(name)
