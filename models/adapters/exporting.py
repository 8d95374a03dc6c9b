"""Writes a version as a folder or an archive; the same version makes the same bytes each time."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, get_args

from models.adapters.folders import read_manifest
from models.adapters.manifest import MANIFEST_FILE, STATE_FILE
from models.disk import fsync_all
from models.errors import AdapterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.adapters.manifest import Manifest

Form = Literal["tar.gz", "tar", "zip"]
FORMS: tuple[Form, ...] = get_args(Form)

_DOS_BEGINNING = (1980, 1, 1, 0, 0, 0)
_PLAIN_FILE = 0o100644 << 16
_UNIX = 3
_CHUNK = 1 << 20


def form_of(target: Path) -> Form | None:
    """Return the form of archive that a file's name asks for; None asks for a folder.

    Raises:
        AdapterError: It ends like an archive that is not written here.
    """
    for form in FORMS:
        if target.name.endswith(f".{form}"):
            return form
    if target.suffix in {".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".safetensors"}:
        raise AdapterError(
            f"{target.name}: archives are written as {', '.join('.' + f for f in FORMS)}."
        )
    return None


def write_export(folder: Path, target: Path, *, state: bool) -> None:
    """Write a checked version's folder to ``target``, all or nothing.

    Raises:
        AdapterError: ``target`` is there already.
    """
    if target.exists() or target.is_symlink():
        raise AdapterError(f"{target} is there already: name another place, or remove it.")
    form = form_of(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".export-", dir=target.parent))
    try:
        whole = scratch / target.name
        if form is None:
            _write_folder(folder, whole, state=state)
        else:
            with whole.open("xb") as out:
                write_archive(folder, form, out, state=state)
            fsync_all([whole])
        whole.rename(target)
        fsync_all([target.parent])
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_archive(folder: Path, form: Form, out: BinaryIO, *, state: bool) -> None:
    """Write an archive of a checked version's folder; its files lie in a folder of its name."""
    manifest = _manifest(folder, state=state)
    if form == "zip":
        _write_zip(folder, manifest, out)
    elif form == "tar":
        _write_tar(folder, manifest, out)
    else:
        with gzip.GzipFile("", "wb", fileobj=out, mtime=0) as packed:
            _write_tar(folder, manifest, packed)  # type: ignore[arg-type]


def _write_folder(folder: Path, target: Path, *, state: bool) -> None:
    target.mkdir()
    manifest = _manifest(folder, state=state)
    for name in manifest.files:
        shutil.copyfile(folder / name, target / name)
    (target / MANIFEST_FILE).write_bytes(_encoded(manifest))
    fsync_all([*target.iterdir(), target])


def _write_zip(folder: Path, manifest: Manifest, out: BinaryIO) -> None:
    with zipfile.ZipFile(out, "w") as archive:
        for name, size, file in _contents(folder, manifest):
            info = zipfile.ZipInfo(f"{manifest.version}/{name}", _DOS_BEGINNING)
            info.external_attr, info.create_system, info.file_size = _PLAIN_FILE, _UNIX, size
            with file, archive.open(info, "w") as member:
                shutil.copyfileobj(file, member, _CHUNK)


def _write_tar(folder: Path, manifest: Manifest, out: BinaryIO) -> None:
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, size, file in _contents(folder, manifest):
            info = tarfile.TarInfo(f"{manifest.version}/{name}")
            info.size = size
            with file:
                archive.addfile(info, file)


def _contents(folder: Path, manifest: Manifest) -> Iterator[tuple[str, int, BinaryIO]]:
    """Yield the name, size and content of each file, in order."""
    for name in sorted(manifest.files):
        path = folder / name
        yield name, path.stat().st_size, path.open("rb")
    encoded = _encoded(manifest)
    yield MANIFEST_FILE, len(encoded), io.BytesIO(encoded)


def _manifest(folder: Path, *, state: bool) -> Manifest:
    """Return what the export's manifest says: without the learner's state if that stays here."""
    manifest = read_manifest(folder)
    files = {n: digest for n, digest in manifest.files.items() if state or n != STATE_FILE}
    return replace(manifest, files=files)


def _encoded(manifest: Manifest) -> bytes:
    return json.dumps(manifest.as_dict(), indent=2).encode()
