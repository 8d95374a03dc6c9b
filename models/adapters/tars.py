"""Reads tar archives forwards, in bounded memory, by the standard library's reader.

That reader takes extended headers and maps of sparse files into memory, whatever their size, and
keeps what it has read of each member. So it gets a stream that allows so many bytes for each
header, and for each member what it says that it has; what it keeps is dropped after each member.
Before Python 3.11.10 it also searches extended headers by patterns which for some headers take
minutes, or all memory: their records are checked before the reader gets them.
"""

from __future__ import annotations

import re
import tarfile
from typing import TYPE_CHECKING, Self

from models.adapters.counting import CHUNK, MAX_MEMBERS, CountedStream, Member, inside
from models.errors import ImportRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path, PurePosixPath

MAX_HEADER_BYTES = 64 << 10
MAX_PATH = 4096
"""Letters of a path; no program could unpack a longer one."""

_EXTENDED = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE})
_LONG_NUMBER = re.compile(rb"\d{100}")
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


class TarStream:
    """What ``tarfile`` reads from: it goes forwards only, and reads no more than was allowed."""

    def __init__(self, stream: CountedStream) -> None:
        self._stream = stream
        self._position = 0
        self._allowed = MAX_HEADER_BYTES
        self._last = b""
        self._extended: tarfile.TarInfo | None = None

    def allow(self, member: tarfile.TarInfo) -> None:
        """Allow to read a member, and the headers of the one after it; a folder has no bytes."""
        size = 0 if member.isdir() else member.size
        self._allowed = size + tarfile.BLOCKSIZE + MAX_HEADER_BYTES

    def note_header(self, header: tarfile.TarInfo) -> None:
        """Note the header that was read last: what an extended one holds is checked."""
        self._extended = header if header.type in _EXTENDED else None

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, or what is left.

        Raises:
            ImportRefusedError: So many are not allowed, or they are of a sparse file.
            HeaderError: The size is negative, or they are of a damaged extended header.
        """
        if size < 0:
            raise tarfile.HeaderError("a size is negative")
        if size > self._allowed:
            raise ImportRefusedError("The archive has a header that is far too long: refused.")
        self._last = self._stream.read(size)
        self._position += len(self._last)
        self._allowed -= len(self._last)
        if self._extended is not None:
            _check_records(self._last[: self._extended.size])
            self._extended = None
        return self._last

    def tell(self) -> int:
        """Return how many bytes were read."""
        return self._position

    def seek(self, position: int) -> None:
        """Read on to a position.

        Raises:
            HeaderError: It lies behind.
        """
        if position < self._position:
            raise tarfile.HeaderError("it leads backwards")
        while self._position < position:
            if not self.read(min(position - self._position, CHUNK)):
                return

    def check_end(self) -> None:
        """Check that what was read last is the block of zeros that ends an archive.

        Raises:
            EOFError: It is not; ``tarfile`` takes a broken header for the end.
        """
        if self._last != bytes(tarfile.BLOCKSIZE):
            raise EOFError("it ends in the middle")


def tar_members(counted: CountedStream, target: Path) -> Iterator[Member]:
    """Yield the plain files of an archive.

    Args:
        counted: The archive, unpacked.
        target: The folder that its files are for.

    Raises:
        ImportRefusedError: It holds something else, or too much.
        TarError, EOFError, ValueError: It is damaged.
    """
    stream = TarStream(counted)
    with tarfile.TarFile(fileobj=stream, tarinfo=_noting(stream)) as archive:  # type: ignore[arg-type]
        for number, info in enumerate(iter(archive.next, None)):
            if number == MAX_MEMBERS:
                raise ImportRefusedError(
                    f"The archive holds more than {MAX_MEMBERS} files: refused."
                )
            path = _checked(info, target)
            archive.members.clear()  # type: ignore[attr-defined] # its stub leaves them out
            archive.pax_headers = {}
            stream.allow(info)
            file = None if info.isdir() else archive.extractfile(info)
            if file is not None:
                yield Member(path, file)
    stream.check_end()


def _noting(stream: TarStream) -> type[tarfile.TarInfo]:
    """Return the class of an archive's headers that tells the stream of each one."""

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            header = super().frombuf(buf, encoding, errors)
            stream.note_header(header)
            return header

    return Header


def _check_records(raw: bytes) -> None:
    """Check the records of an extended header: ``<length> <key>=<value>`` and a line's end each.

    Raises:
        ImportRefusedError: They are of a sparse or huge file.
        HeaderError, ValueError: They are damaged.
    """
    if _LONG_NUMBER.search(raw):
        raise tarfile.HeaderError("an extended header has a number of 100 digits")
    start = 0
    while start < len(raw):
        space = raw.index(b" ", start)
        end = start + int(raw[start:space])
        if not space < end <= len(raw):
            raise tarfile.HeaderError("an extended header is damaged")
        key, equals, _ = raw[space + 1 : end - 1].partition(b"=")
        if not equals or raw[end - 1 : end] != b"\n":
            raise tarfile.HeaderError("an extended header is damaged")
        if key == b"size" or key.startswith(b"GNU.sparse"):
            raise ImportRefusedError("The archive holds a sparse or huge file: refused.")
        start = end


def _checked(info: tarfile.TarInfo, target: Path) -> PurePosixPath:
    """Return the path of a plain file or a folder.

    Raises:
        ImportRefusedError: It is something else, or leads out of the archive.
        HeaderError: Its size is negative.
    """
    path = inside(info.name)
    if info.size < 0:
        raise tarfile.HeaderError("a size is negative")
    if len(info.name) > MAX_PATH:
        raise ImportRefusedError("The archive holds a path that is far too long: refused.")
    if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE}:
        raise ImportRefusedError(f"{path} is {_KINDS.get(info.type, 'no plain file')}: refused.")
    try:
        tarfile.data_filter(info, str(target))
    except tarfile.FilterError as error:
        raise ImportRefusedError(f"{path} leads out of the archive ({error}): refused.") from error
    return path
