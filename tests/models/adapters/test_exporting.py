from __future__ import annotations

import io
import json
import tarfile
import time
import zipfile
from typing import TYPE_CHECKING

import pytest

from models.adapters import (
    CONFIG_FILE,
    FORMS,
    MANIFEST_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    AdapterRequirements,
    AdapterStore,
    Form,
)
from models.errors import AdapterError
from tests.support.models.adapter_files import check_import, import_from, write_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = {CONFIG_FILE, WEIGHTS_FILE, STATE_FILE, MANIFEST_FILE}


@pytest.fixture
def version(store: AdapterStore, wanted: AdapterRequirements, peft_folder: Path) -> str:
    write_state(peft_folder)
    return import_from(store, peft_folder, sequence=3, wanted=wanted, now=5.0).version


@pytest.mark.parametrize("name", ["folder", "a.tar.gz", "a.tar", "a.zip"])
def test_an_export_taken_in_again_is_the_same_version(
    store: AdapterStore, wanted: AdapterRequirements, version: str, tmp_path: Path, name: str
) -> None:
    before = {p.name: p.read_bytes() for p in store.fetch(version).iterdir()}
    store.export(version, tmp_path / name)
    other = AdapterStore(tmp_path / "other")
    manifest = import_from(other, tmp_path / name, sequence=3, wanted=wanted, now=5.0)
    after = {p.name: p.read_bytes() for p in other.fetch(manifest.version).iterdir()}
    assert manifest.version == version
    assert {n: after[n] for n in FILES - {MANIFEST_FILE}} == {
        n: before[n] for n in FILES - {MANIFEST_FILE}
    }


@pytest.mark.parametrize("form", FORMS)
def test_the_same_version_makes_the_same_bytes_each_time(
    store: AdapterStore,
    version: str,
    tmp_path: Path,
    form: Form,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store.export(version, tmp_path / f"one.{form}")
    monkeypatch.setattr(time, "time", lambda: 2e9)
    for path in store.path(version).iterdir():
        path.chmod(0o600)
    out = io.BytesIO()
    store.write_archive(version, form, out)
    assert (tmp_path / f"one.{form}").read_bytes() == out.getvalue()


def test_an_archive_holds_one_folder_of_plain_files(
    store: AdapterStore, version: str, tmp_path: Path
) -> None:
    for form in FORMS:
        store.export(version, tmp_path / f"a.{form}")
    for form in ("tar", "tar.gz"):
        with tarfile.open(tmp_path / f"a.{form}") as archive:
            assert {m.name for m in archive} == {f"{version}/{name}" for name in FILES}
            assert {(m.uid, m.gid, m.mtime, m.mode) for m in archive} == {(0, 0, 0, 0o644)}
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert set(archive.namelist()) == {f"{version}/{name}" for name in FILES}
        assert archive.testzip() is None


@pytest.mark.parametrize("name", ["folder", "a.tar.gz", "a.zip"])
def test_the_learners_state_can_stay_here(
    store: AdapterStore, wanted: AdapterRequirements, version: str, tmp_path: Path, name: str
) -> None:
    store.export(version, tmp_path / name, state=False)
    checked = check_import(store, tmp_path / name, wanted)
    assert (checked.source, checked.has_state) == (version, False)
    if name == "folder":
        assert {p.name for p in (tmp_path / name).iterdir()} == FILES - {STATE_FILE}


def test_what_is_there_is_not_written_over(
    store: AdapterStore, version: str, tmp_path: Path
) -> None:
    (tmp_path / "a.zip").write_text("mine")
    with pytest.raises(AdapterError, match="there already"):
        store.export(version, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_text() == "mine"


def test_an_export_that_fails_leaves_nothing(
    store: AdapterStore, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p.name for p in tmp_path.iterdir()}
    monkeypatch.setattr("shutil.copyfile", _full)
    with pytest.raises(OSError, match="disk full"):
        store.export(version, tmp_path / "out" / "folder")
    assert list((tmp_path / "out").iterdir()) == []
    assert {p.name for p in tmp_path.iterdir()} == before | {"out"}


def _full(*_: object) -> None:
    raise OSError("disk full")


@pytest.mark.parametrize("name", ["a.tgz", "a.tar.xz", "a.7z", "a.safetensors"])
def test_an_unknown_ending_is_refused(
    store: AdapterStore, version: str, tmp_path: Path, name: str
) -> None:
    with pytest.raises(AdapterError, match=r"written as \.tar\.gz, \.tar, \.zip"):
        store.export(version, tmp_path / name)


def test_a_damaged_version_is_not_exported(
    store: AdapterStore, version: str, tmp_path: Path
) -> None:
    with (store.path(version) / WEIGHTS_FILE).open("ab") as file:
        file.write(b"x")
    with pytest.raises(AdapterError, match="altered"):
        store.export(version, tmp_path / "a.zip")


def test_old_versions_keep_only_their_manifests(
    store: AdapterStore, publish: Callable[[int], str], tmp_path: Path
) -> None:
    versions = [publish(number) for number in range(1, 8)]
    manifests = {v: (store.path(v) / MANIFEST_FILE).read_bytes() for v in versions}
    gone = store.keep({versions[0], versions[2], "base"}, last=3)
    assert gone == [versions[1], versions[3]]
    assert store.published() == [v for v in versions if v not in gone]
    root = tmp_path / "adapters"
    assert {p.name: p.read_bytes() for p in (root / "removed").iterdir()} == {
        f"{v}.json": manifests[v] for v in gone
    }
    assert store.keep({versions[0], versions[2]}, last=3) == []
    with pytest.raises(
        AdapterError, match="its weights were removed after THUMBLOOP_KEEP_VERSIONS"
    ):
        store.verify(gone[0])
    for kept in store.published():
        store.verify(kept)


def test_fewer_versions_than_the_limit_all_stay(
    store: AdapterStore, publish: Callable[[int], str]
) -> None:
    versions = [publish(number) for number in (1, 2)]
    assert store.keep(set(), last=2) == []
    assert store.keep(set(), last=20) == []
    assert store.published() == versions


def test_a_damaged_old_version_goes_without_a_manifest(
    store: AdapterStore, publish: Callable[[int], str]
) -> None:
    old, new = publish(1), publish(2)
    (store.path(old) / MANIFEST_FILE).unlink()
    assert store.keep(set(), last=1) == [old]
    assert store.published() == [new]


def test_figures_stay_in_the_manifest_and_are_strict_json(
    store: AdapterStore, publish: Callable[..., str]
) -> None:
    version = publish(1, figures={"kl": 0.5, "loss": float("nan"), "by": [float("inf"), 1]})
    text = (store.path(version) / MANIFEST_FILE).read_text()
    raw = json.loads(text, parse_constant=pytest.fail)
    assert raw["figures"] == {"kl": 0.5, "loss": None, "by": [None, 1]}
    assert store.verify(version).origin.figures == raw["figures"]
