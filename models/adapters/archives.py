"""Reads what people upload: a folder or an archive, of which nothing is believed.

Only the four files of an adapter are taken, at the top or in one folder. Whatever else an archive
holds must still be harmless: a plain file or folder, with a path that stays inside. Bytes are
counted as they are unpacked, so that a small archive cannot fill the disk, and headers are bounded,
so that it cannot fill the memory.
"""

from __future__ import annotations

import gzip
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from contextlib import closing, contextmanager
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from models.adapters.counting import (
    CHUNK,
    MAX_MEMBERS,
    Budget,
    CountedStream,
    Member,
    Readable,
    inside,
)
from models.adapters.manifest import CONFIG_FILE, MANIFEST_FILE, STATE_FILE, WEIGHTS_FILE
from models.adapters.tars import tar_members
from models.errors import ImportRefusedError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

FILES = (CONFIG_FILE, WEIGHTS_FILE, STATE_FILE, MANIFEST_FILE)
PICKLE = "adapter_model.bin"
MAX_DIRECTORY_BYTES = 1 << 20
_DEPTH = 2
_LOCATOR_BYTES, _END_BYTES = 20, 22
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    ValueError,
)


def take_files(
    source: Path,
    target: Path,
    max_bytes: int,
    *,
    called: str = "",
    follow_links: bool = False,
) -> None:
    """Copy an adapter's files out of a folder or an archive into an empty folder.

    Args:
        source: The folder or archive.
        target: The empty folder.
        max_bytes: Most bytes to unpack.
        called: What messages call the source; its name by default.
        follow_links: Whether a folder's files may be links, as in a hub's cache.

    Raises:
        ImportRefusedError: There are none, or the source is damaged, too large or not safe.
    """
    called = called or source.name
    budget = Budget(max_bytes)
    taken: dict[str, PurePosixPath] = {}
    pickled = False
    with (
        _readable(called),
        closing(_members(source, target, budget, follow_links=follow_links)) as members,
    ):
        for member in members:
            name = member.path.name
            pickled = pickled or name == PICKLE
            if name not in FILES or len(member.path.parts) > _DEPTH:
                continue
            if name in taken:
                raise ImportRefusedError(
                    f"{called} holds {taken[name]} and {member.path}: which one is meant?"
                )
            taken[name] = member.path
            _copy(member.file, target / name)
    _check_complete(called, taken, pickled=pickled)


def _check_complete(called: str, taken: dict[str, PurePosixPath], *, pickled: bool) -> None:
    if WEIGHTS_FILE not in taken and pickled:
        raise ImportRefusedError(
            f"{called} holds {PICKLE}, a pickle, which can run code when it is read. Save the "
            "adapter as safetensors: model.save_pretrained(folder, safe_serialization=True)."
        )
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if name not in taken]
    if missing:
        raise ImportRefusedError(
            f"{called} holds no {' and no '.join(missing)}: an adapter in PEFT's format has "
            "both, at the top or in one folder."
        )
    if len({path.parent for path in taken.values()}) > 1:
        raise ImportRefusedError(
            f"{called} holds an adapter's files in several folders: "
            f"{', '.join(map(str, taken.values()))}. Put them into one."
        )


def _copy(file: Readable, target: Path) -> None:
    with target.open("xb") as out:
        while some := file.read(CHUNK):
            out.write(some)


@contextmanager
def _readable(called: str) -> Iterator[None]:
    """Turn what readers of archives raise into a refusal."""
    try:
        yield
    except _DAMAGED as error:
        raise ImportRefusedError(
            f"{called} cannot be read ({error}): it is damaged, or no .tar.gz, .tar or .zip."
        ) from error


def _members(
    source: Path, target: Path, budget: Budget, *, follow_links: bool
) -> Generator[Member]:
    if source.is_dir():
        yield from _of_folder(source, budget, follow_links=follow_links)
        return
    if not source.is_file():
        raise ImportRefusedError(f"{source} is neither a folder nor a file.")
    with source.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if start[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield from tar_members(CountedStream(unpacked, budget), target)
        elif start[:2] == b"PK":
            yield from _of_zip(file, budget)
        else:
            yield from tar_members(CountedStream(file, budget), target)


def _of_folder(source: Path, budget: Budget, *, follow_links: bool) -> Generator[Member]:
    for path in sorted(source.iterdir()):
        if path.name not in (*FILES, PICKLE):
            continue
        file_of = path.resolve() if follow_links else path
        if not stat.S_ISREG(file_of.lstat().st_mode):
            raise ImportRefusedError(f"{path} is a link, or no plain file: refused.")
        handle = os.open(file_of, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(handle, "rb") as file:
            yield Member(PurePosixPath(path.name), CountedStream(file, budget))


def _of_zip(file: BinaryIO, budget: Budget) -> Generator[Member]:
    _check_directory(file)
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            path = inside(info.orig_filename)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise ImportRefusedError(f"{path} is a link or a device: refused.")
            if info.flag_bits & 1:
                raise ImportRefusedError(f"{path} is encrypted: pack the archive without.")
            if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise ImportRefusedError(f"{path} is packed in an unusual way: use deflate.")
            if not info.is_dir():
                with archive.open(info) as member:
                    yield Member(path, CountedStream(member, budget))


def _check_directory(file: BinaryIO) -> None:
    """Bound a zip's directory before all of it is read into memory.

    Raises:
        ImportRefusedError: It has too many members, or is of the form for huge archives.
        BadZipFile: There is none.
    """
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, size - (1 << 16) - _END_BYTES - _LOCATOR_BYTES))
    tail = file.read()
    at = tail.rfind(b"PK\5\6", 0, len(tail) - _END_BYTES + 4)
    if at < 0:
        raise zipfile.BadZipFile("it has no directory")
    members, directory_bytes, offset = struct.unpack("<HLL", tail[at + 10 : at + 20])
    huge = tail[max(0, at - _LOCATOR_BYTES) : at].startswith(b"PK\6\7")
    if huge or members > MAX_MEMBERS or directory_bytes > MAX_DIRECTORY_BYTES:
        raise ImportRefusedError(f"The archive holds more than {MAX_MEMBERS} files: refused.")
    if offset + directory_bytes > start + at:
        raise zipfile.BadZipFile("its directory lies elsewhere")
    file.seek(0)
