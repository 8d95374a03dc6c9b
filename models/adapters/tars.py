"""Reads tar archives forwards, in bounded memory, by the standard library's reader.

That reader takes extended headers and maps of sparse files into memory, whatever their size. So it
gets a stream that allows so many bytes for each header, and for each member what it says that it
has.
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from models.adapters.counting import CHUNK, MAX_MEMBERS, CountedStream, Member, inside
from models.errors import ImportRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path, PurePosixPath

MAX_HEADER_BYTES = 64 << 10
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

    def allow(self, member: tarfile.TarInfo) -> None:
        """Allow to read a member, and the headers of the one after it."""
        self._allowed = member.size + tarfile.BLOCKSIZE + MAX_HEADER_BYTES

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes, or what is left.

        Raises:
            ImportRefusedError: So many are not allowed.
            HeaderError: The size is negative.
        """
        if size < 0:
            raise tarfile.HeaderError("a size is negative")
        if size > self._allowed:
            raise ImportRefusedError("The archive has a header that is far too long: refused.")
        self._last = self._stream.read(size)
        self._position += len(self._last)
        self._allowed -= len(self._last)
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
    with tarfile.TarFile(fileobj=stream) as archive:  # type: ignore[arg-type]
        for number, info in enumerate(archive):
            if number == MAX_MEMBERS:
                raise ImportRefusedError(
                    f"The archive holds more than {MAX_MEMBERS} files: refused."
                )
            path = _checked(info, target)
            stream.allow(info)
            file = None if info.isdir() else archive.extractfile(info)
            if file is not None:
                yield Member(path, file)
    stream.check_end()


def _checked(info: tarfile.TarInfo, target: Path) -> PurePosixPath:
    """Return the path of a plain file or a folder.

    Raises:
        ImportRefusedError: It is something else, or leads out of the archive.
        HeaderError: Its size is negative.
    """
    path = inside(info.name)
    if info.size < 0:
        raise tarfile.HeaderError("a size is negative")
    if "size" in info.pax_headers or any(key.startswith("GNU.sparse") for key in info.pax_headers):
        raise ImportRefusedError("The archive holds a sparse or huge file: refused.")
    if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE}:
        raise ImportRefusedError(f"{path} is {_KINDS.get(info.type, 'no plain file')}: refused.")
    try:
        tarfile.data_filter(info, str(target))
    except tarfile.FilterError as error:
        raise ImportRefusedError(f"{path} leads out of the archive ({error}): refused.") from error
    return path
