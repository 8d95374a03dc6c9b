"""Reads tar archives forwards, in bounded memory.

The standard library's reader takes extended headers and maps of sparse files into memory whatever
their size; this one knows only what an adapter's archive needs, and takes headers one by one.
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from models.adapters.counting import MAX_MEMBERS, ArchivePart, CountedStream, Member, inside
from models.errors import ImportRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_HEADER_BYTES = 64 << 10
_BLOCK = 512
_HEADERS_A_MEMBER = 4
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}
_HEADERS = {
    tarfile.XHDTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.GNUTYPE_LONGNAME,
}


def tar_members(stream: CountedStream) -> Iterator[Member]:
    """Yield the plain files of an archive.

    Raises:
        ImportRefusedError: It holds something else, or too much.
        TarError, EOFError, ValueError: It is damaged.
    """
    name: str | None = None
    members = 0
    for _ in range(_HEADERS_A_MEMBER * MAX_MEMBERS):
        block = stream.exactly(_BLOCK)
        if not block.strip(b"\0"):
            return
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if info.size < 0:
            raise tarfile.HeaderError("a size is negative")
        if info.type in _HEADERS:
            name = _long_name(info, stream) or name
            continue
        path = inside(name or info.name)
        name, members = None, members + 1
        if members > MAX_MEMBERS:
            break
        if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE}:
            kind = _KINDS.get(info.type, "no plain file")
            raise ImportRefusedError(f"{path} is {kind}: refused.")
        part = ArchivePart(stream, info.size)
        if info.type != tarfile.DIRTYPE:
            yield Member(path, part)
        stream.skip(part.left + -info.size % _BLOCK)
    raise ImportRefusedError(f"The archive holds more than {MAX_MEMBERS} files: refused.")


def _long_name(info: tarfile.TarInfo, stream: CountedStream) -> str | None:
    """Read an extended header; return the path that it gives to the next member, if it does."""
    if info.size > MAX_HEADER_BYTES:
        raise ImportRefusedError("The archive has a header that is far too long: refused.")
    raw = stream.exactly(info.size)
    stream.skip(-info.size % _BLOCK)
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return raw.rstrip(b"\0").decode("utf-8", "surrogateescape")
    records = dict(_records(raw))
    if "size" in records or any(key.startswith("GNU.sparse") for key in records):
        raise ImportRefusedError("The archive holds a sparse or huge file: refused.")
    return records.get("path")


def _records(raw: bytes) -> Iterator[tuple[str, str]]:
    """Yield the records of a pax header: ``<length> <key>=<value>`` and a line's end each."""
    start = 0
    while start < len(raw):
        space = raw.index(b" ", start)
        end = start + int(raw[start:space])
        if not space < end <= len(raw):
            raise tarfile.HeaderError("an extended header is damaged")
        key, _, value = raw[space + 1 : end - 1].partition(b"=")
        yield key.decode(errors="replace"), value.decode("utf-8", "surrogateescape")
        start = end
