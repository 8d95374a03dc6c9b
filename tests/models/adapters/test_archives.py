from __future__ import annotations

import gzip
import io
import stat
import tarfile
import time
import tracemalloc
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from models.adapters import CONFIG_FILE, WEIGHTS_FILE, AdapterRequirements, AdapterStore
from models.adapters.archives import take_files
from models.adapters.counting import MAX_MEMBERS
from models.errors import ImportRefusedError
from tests.support.models.adapter_files import check_import, import_from

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT = 1 << 20


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def make_tar(path: Path, *members: tuple[tarfile.TarInfo | str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def make_zip(path: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def block(content: bytes) -> bytes:
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


def header(name: str, kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.USTAR_FORMAT)


def record(key: str) -> bytes:
    """Return a record of an extended header, with an empty value."""
    length = len(key) + 3
    while len(str(length)) + len(key) + 3 != length:
        length += 1
    return f"{length} {key}=\n".encode()


BOTH = ((CONFIG_FILE, b"{}"), (WEIGHTS_FILE, b"w"))
IN_A_FOLDER = tuple((f"adapter/{name}", content) for name, content in BOTH)


@pytest.mark.parametrize("members", [BOTH, IN_A_FOLDER, (*IN_A_FOLDER, ("adapter/x/y/z", b"z"))])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_is_taken(tmp_path: Path, target: Path, members: Any, mode: str) -> None:
    take_files(make_tar(tmp_path / "a", *members, mode=mode), target, LIMIT)
    assert {p.name: p.read_bytes() for p in target.iterdir()} == dict(BOTH)


@pytest.mark.parametrize("members", [BOTH, IN_A_FOLDER])
def test_a_zip_is_taken(tmp_path: Path, target: Path, members: Any) -> None:
    take_files(make_zip(tmp_path / "a", *members), target, LIMIT)
    assert {p.name: p.read_bytes() for p in target.iterdir()} == dict(BOTH)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_what_usual_programs_pack_is_taken(tmp_path: Path, target: Path, form: int) -> None:
    """With folders, times that need extended headers, and long names beside ours."""
    source = tmp_path / "source"
    source.mkdir()
    for name, content in BOTH:
        (source / name).write_bytes(content)
    if form != tarfile.USTAR_FORMAT:
        (source / ("long" * 40)).write_bytes(b"x" * 700)
    with tarfile.open(tmp_path / "a", "w", format=form) as archive:
        archive.add(source, "adapter")
    take_files(tmp_path / "a", target, LIMIT)
    assert {p.name for p in target.iterdir()} == {CONFIG_FILE, WEIGHTS_FILE}


OUTSIDE = ["../x", "a/../../x", "/etc/x", "..\\x", "C:/x", f"../{CONFIG_FILE}"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_a_path_that_leads_out_is_refused(
    tmp_path: Path, target: Path, make: Callable[..., Path], name: str
) -> None:
    with pytest.raises(ImportRefusedError, match="leads out"):
        take_files(make(tmp_path / "a", *BOTH, (name, b"x")), target, LIMIT)
    assert {p.name for p in tmp_path.iterdir()} == {"a", "target"}


def test_a_long_path_that_leads_out_is_refused(tmp_path: Path, target: Path) -> None:
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(tmp_path / "a", "w", format=form) as archive:
            archive.addfile(tarfile.TarInfo("../" + "x" * 200))
        with pytest.raises(ImportRefusedError, match="leads out"):
            take_files(tmp_path / "a", target, LIMIT)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
        (tarfile.CONTTYPE, "no plain file"),
        (tarfile.GNUTYPE_SPARSE, "no plain file"),
        (b"?", "no plain file"),
    ],
)
@pytest.mark.parametrize("name", [WEIGHTS_FILE, "something-else"])
def test_what_is_no_plain_file_is_refused(
    tmp_path: Path, target: Path, kind: bytes, word: str, name: str
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(ImportRefusedError, match=word):
        take_files(make_tar(tmp_path / "a", BOTH[0], (info, b"")), target, LIMIT)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_a_link_in_a_zip_is_refused(tmp_path: Path, target: Path, kind: int) -> None:
    info = zipfile.ZipInfo(WEIGHTS_FILE)
    info.external_attr = (kind | 0o777) << 16
    with pytest.raises(ImportRefusedError, match="link or a device"):
        take_files(make_zip(tmp_path / "a", BOTH[0], (info, b"/etc/passwd")), target, LIMIT)


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path, target: Path) -> None:
    for make, options in ((make_tar, {"mode": "w:gz"}), (make_zip, {})):
        bomb = make(tmp_path / "a", BOTH[0], (WEIGHTS_FILE, bytes(64 << 20)), **options)
        assert bomb.stat().st_size < 100_000
        with pytest.raises(ImportRefusedError, match="larger than 1048576 bytes"):
            take_files(bomb, target, LIMIT)
        assert sum(p.stat().st_size for p in target.iterdir()) <= LIMIT
        for path in target.iterdir():
            path.unlink()


def test_a_bomb_in_a_file_that_nobody_wants_is_refused_too(tmp_path: Path, target: Path) -> None:
    bomb = make_tar(tmp_path / "a", ("other", bytes(64 << 20)), *BOTH, mode="w:gz")
    with pytest.raises(ImportRefusedError, match="larger than"):
        take_files(bomb, target, LIMIT)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L"])
def test_a_header_that_fills_the_memory_is_refused(
    tmp_path: Path, target: Path, kind: bytes
) -> None:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, 512 << 20
    (tmp_path / "a").write_bytes(gzip.compress(info.tobuf() + bytes(1 << 20)))
    with pytest.raises(ImportRefusedError, match="far too long"):
        take_files(tmp_path / "a", target, LIMIT << 10)


@pytest.mark.parametrize("kind", [b"x", b"L"])
def test_a_folder_that_claims_bytes_allows_no_longer_header(
    tmp_path: Path, target: Path, kind: bytes
) -> None:
    raw = header("folder/", tarfile.DIRTYPE, 1 << 30) + header("long", kind, 64 << 20)
    (tmp_path / "a").write_bytes(gzip.compress(raw + bytes(64 << 20)))
    with pytest.raises(ImportRefusedError, match="far too long"):
        take_files(tmp_path / "a", target, LIMIT << 10)


def test_headers_of_many_members_do_not_add_up(tmp_path: Path, target: Path) -> None:
    """The reader keeps its members, and gives each of them all global headers before it."""
    raw = b""
    for number in range(MAX_MEMBERS):
        records = b"".join(record(f"{number}.{each}") for each in range(1000))
        raw += header("global", tarfile.XGLTYPE, len(records)) + block(records)
        raw += header(f"f{number}", tarfile.REGTYPE, 0)
    (tmp_path / "a").write_bytes(gzip.compress(raw + bytes(1024)))
    tracemalloc.start()
    try:
        with pytest.raises(ImportRefusedError, match=f"holds no {CONFIG_FILE}"):
            take_files(tmp_path / "a", target, LIMIT << 10)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "records",
    [b"1" * 60_000, record("a" + "1" * 60_000), b"3 \n" * 20_000 + b"=", b"4 a\n", b"5 a=b"],
    ids=["digits", "digits in a record", "no end", "no value", "no line's end"],
)
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE])
def test_a_damaged_extended_header_is_refused_before_the_reader_searches_it(
    tmp_path: Path, target: Path, records: bytes, kind: bytes
) -> None:
    """Before Python 3.11.10 the search takes seconds, or hundreds of megabytes."""
    raw = header("x", kind, len(records)) + block(records) + header("f", tarfile.REGTYPE, 0)
    (tmp_path / "a").write_bytes(raw + bytes(1024))
    started = time.process_time()
    with pytest.raises(ImportRefusedError, match="damaged"):
        take_files(tmp_path / "a", target, LIMIT)
    assert time.process_time() - started < 0.5


def test_a_path_that_no_program_could_unpack_is_refused(tmp_path: Path, target: Path) -> None:
    """To see where it leads takes the square of its length."""
    path = make_tar(tmp_path / "a", *BOTH, ("a/" * 20_000 + "b", b""))
    with pytest.raises(ImportRefusedError, match="path that is far too long"):
        take_files(path, target, LIMIT)


@pytest.mark.parametrize("key", ["GNU.sparse.major", "size"])
def test_a_sparse_file_is_refused(tmp_path: Path, target: Path, key: str) -> None:
    info = tarfile.TarInfo(WEIGHTS_FILE)
    info.pax_headers = {key: "1"}
    with pytest.raises(ImportRefusedError, match="sparse or huge"):
        take_files(make_tar(tmp_path / "a", BOTH[0], (info, b"w")), target, LIMIT)


def test_a_map_of_a_sparse_file_that_fills_the_memory_is_refused(
    tmp_path: Path, target: Path
) -> None:
    """Such a map is at the beginning of the file's data, and as long as it says itself."""
    info = tarfile.TarInfo(WEIGHTS_FILE)
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "w"}
    content = b"9999999\n" + b"0\n" * (4 << 20)
    with pytest.raises(ImportRefusedError, match="sparse or huge"):
        take_files(make_tar(tmp_path / "a", (info, content), mode="w:gz"), target, LIMIT << 10)


@pytest.mark.parametrize("kind", [b"x", b"L"])
def test_a_chain_of_headers_is_refused(tmp_path: Path, target: Path, kind: bytes) -> None:
    """Each of them takes the reader a call deeper."""
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, 9
    link = info.tobuf() + b"9 path=a\n".ljust(512, b"\0")
    (tmp_path / "a").write_bytes(link * 5000)
    with pytest.raises(ImportRefusedError, match="far too long"):
        take_files(tmp_path / "a", target, LIMIT << 10)


def test_an_archive_whose_later_header_is_broken_is_refused(tmp_path: Path, target: Path) -> None:
    """The standard library's reader takes such a header for the end."""
    raw = bytearray(make_tar(tmp_path / "a", *BOTH, ("more", b"x")).read_bytes())
    raw[2 * 1024 + 3] ^= 1
    (tmp_path / "a").write_bytes(raw)
    with pytest.raises(ImportRefusedError, match="damaged"):
        take_files(tmp_path / "a", target, LIMIT)


def test_too_many_files_are_refused(tmp_path: Path, target: Path) -> None:
    many = [(f"f{number}", b"") for number in range(MAX_MEMBERS + 1)]
    for make in (make_tar, make_zip):
        with pytest.raises(ImportRefusedError, match="more than 256 files"):
            take_files(make(tmp_path / "a", *many), target, 64 * LIMIT)


def test_a_zip_whose_directory_fills_the_memory_is_refused(tmp_path: Path, target: Path) -> None:
    """The count is false; the size of the directory tells."""
    path = make_zip(tmp_path / "a", *((f"{number:0200d}", b"") for number in range(5000)))
    raw = bytearray(path.read_bytes())
    raw[-12:-10] = (2).to_bytes(2, "little")
    path.write_bytes(raw)
    with pytest.raises(ImportRefusedError, match="more than 256 files"):
        take_files(path, target, LIMIT)


def test_a_zip_whose_directory_lies_elsewhere_is_refused(tmp_path: Path, target: Path) -> None:
    path = make_zip(tmp_path / "a", *BOTH)
    raw = bytearray(path.read_bytes())
    raw[-6:-2] = (10**9).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(ImportRefusedError, match="damaged"):
        take_files(path, target, LIMIT)


def test_an_encrypted_zip_is_refused(tmp_path: Path, target: Path) -> None:
    path = make_zip(tmp_path / "a", *BOTH)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(ImportRefusedError, match="encrypted"):
        take_files(path, target, LIMIT)


def test_an_unusual_packing_is_refused(tmp_path: Path, target: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr(CONFIG_FILE, b"{}")
    with pytest.raises(ImportRefusedError, match="use deflate"):
        take_files(tmp_path / "a", target, LIMIT)


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_two_files_of_one_name_are_refused(
    tmp_path: Path, target: Path, make: Callable[..., Path]
) -> None:
    with pytest.raises(ImportRefusedError, match="which one is meant"):
        take_files(make(tmp_path / "a", *BOTH, (f"x/{CONFIG_FILE}", b"{}")), target, LIMIT)


def test_files_from_several_folders_are_refused(tmp_path: Path, target: Path) -> None:
    scattered = [(f"{n}/{name}", content) for n, (name, content) in enumerate(BOTH)]
    with pytest.raises(ImportRefusedError, match="in several folders"):
        take_files(make_tar(tmp_path / "a", *scattered), target, LIMIT)


def test_a_pickle_in_an_archive_is_named(tmp_path: Path, target: Path) -> None:
    with pytest.raises(ImportRefusedError, match="a pickle"):
        take_files(make_zip(tmp_path / "a", BOTH[0], ("adapter_model.bin", b"x")), target, LIMIT)


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"PK\3\4", b"PK" + bytes(99), b"\x1f\x8b", b"\x1f\x8b" + b"x" * 99, b"y" * 9999],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, target: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ImportRefusedError, match=r"damaged, or no \.tar\.gz"):
        take_files(tmp_path / "a", target, LIMIT)


@pytest.mark.parametrize("form", ["tar.gz", "tar", "zip"])
def test_an_archive_cut_off_anywhere_is_refused(
    store: AdapterStore, wanted: AdapterRequirements, peft_folder: Path, tmp_path: Path, form: str
) -> None:
    whole = tmp_path / f"whole.{form}"
    version = import_from(store, peft_folder, sequence=1, wanted=wanted, now=0.0).version
    store.export(version, whole)
    content = whole.read_bytes()
    for end in range(0, len(content.rstrip(b"\0")), 97):
        (tmp_path / "cut").write_bytes(content[:end])
        with pytest.raises(ImportRefusedError):
            check_import(store, tmp_path / "cut", wanted)
    assert check_import(store, whole, wanted).source == version


@pytest.mark.parametrize("form", ["tar.gz", "tar", "zip"])
def test_no_flipped_byte_breaks_the_reader(
    store: AdapterStore, wanted: AdapterRequirements, peft_folder: Path, tmp_path: Path, form: str
) -> None:
    """Whatever a byte becomes, the answer is a refusal or the very same adapter."""
    whole = tmp_path / f"whole.{form}"
    version = import_from(store, peft_folder, sequence=1, wanted=wanted, now=0.0).version
    store.export(version, whole)
    content, refusals = bytearray(whole.read_bytes()), 0
    for at in range(0, len(content), 41):
        flipped = bytearray(content)
        flipped[at] ^= 0x55
        (tmp_path / "flipped").write_bytes(flipped)
        try:
            assert check_import(store, tmp_path / "flipped", wanted).source == version
        except ImportRefusedError:
            refusals += 1
    assert refusals > 0
