from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from models.adapters import CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE, AdapterStore, Origin
from models.errors import AdapterError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ORIGIN = Origin(
    parent="base",
    run=7,
    batch_hash="abc",
    fence=3,
    base_model="tiny",
    base_hash="def",
    created_at=1.5,
)


def _writer(weights: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / CONFIG_FILE).write_text("{}")
        (folder / WEIGHTS_FILE).write_bytes(weights)

    return write


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "adapters")


def test_a_published_version_verifies_and_knows_its_origin(store: AdapterStore) -> None:
    manifest = store.publish(7, ORIGIN, _writer(b"w"))
    assert manifest.version.startswith("v000007-")
    assert store.verify(manifest.version) == manifest
    assert manifest.origin == ORIGIN


def test_publishing_the_same_again_is_the_same_version(store: AdapterStore) -> None:
    assert store.publish(7, ORIGIN, _writer(b"w")) == store.publish(7, ORIGIN, _writer(b"w"))


def test_other_weights_are_another_version(store: AdapterStore) -> None:
    one = store.publish(7, ORIGIN, _writer(b"w"))
    assert store.publish(7, ORIGIN, _writer(b"x")).version != one.version


def test_a_crash_while_writing_leaves_nothing_behind(store: AdapterStore, tmp_path: Path) -> None:
    def crash(folder: Path) -> None:
        (folder / WEIGHTS_FILE).write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.publish(7, ORIGIN, crash)
    assert list((tmp_path / "adapters").iterdir()) == []


def test_a_flipped_byte_is_refused(store: AdapterStore) -> None:
    version = store.publish(7, ORIGIN, _writer(b"weights")).version
    (store.path(version) / WEIGHTS_FILE).write_bytes(b"weighty")
    with pytest.raises(AdapterError, match="altered"):
        store.verify(version)


def test_altered_files_with_an_altered_manifest_are_refused(store: AdapterStore) -> None:
    one = store.publish(7, ORIGIN, _writer(b"one"))
    two = store.publish(7, ORIGIN, _writer(b"two"))
    for name in (WEIGHTS_FILE, MANIFEST_FILE):
        source = store.path(two.version) / name
        (store.path(one.version) / name).write_bytes(source.read_bytes())
    with pytest.raises(AdapterError, match="renamed"):
        store.verify(one.version)


def test_a_link_is_refused(store: AdapterStore, tmp_path: Path) -> None:
    version = store.publish(7, ORIGIN, _writer(b"w")).version
    outside = tmp_path / "outside"
    outside.write_bytes(b"w")
    weights = store.path(version) / WEIGHTS_FILE
    weights.unlink()
    weights.symlink_to(outside)
    with pytest.raises(AdapterError, match="leads out"):
        store.verify(version)


def test_a_manifest_that_names_a_path_is_refused(store: AdapterStore) -> None:
    version = store.publish(7, ORIGIN, _writer(b"w")).version
    path = store.path(version) / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    manifest["files"]["../x"] = "0"
    path.write_text(json.dumps(manifest))
    with pytest.raises(AdapterError, match="leads out"):
        store.verify(version)


@pytest.mark.parametrize("version", ["../../x", "/etc", "base", "v000007-zzz"])
def test_no_path_is_made_from_anything_but_an_id(store: AdapterStore, version: str) -> None:
    with pytest.raises(AdapterError):
        store.path(version)


def test_a_missing_version_says_what_to_do(store: AdapterStore) -> None:
    with pytest.raises(AdapterError, match="activate another version"):
        store.verify("v000001-000000000000")


def test_a_saved_run_is_found_by_its_batch_and_parent(store: AdapterStore) -> None:
    manifest = store.publish(7, ORIGIN, _writer(b"w"))
    assert store.find_batch(7, "abc", "base") == manifest
    assert store.find_batch(7, "other", "base") is None
    assert store.find_batch(8, "abc", "base") is None
    assert store.find_batch(7, "abc", "v000001-0123456789ab") is None


def test_a_damaged_run_is_set_aside_and_can_be_published_again(
    store: AdapterStore, tmp_path: Path
) -> None:
    version = store.publish(7, ORIGIN, _writer(b"weights")).version
    (store.path(version) / WEIGHTS_FILE).write_bytes(b"weig")
    assert store.find_batch(7, "abc", "base") is None
    assert store.published() == []
    (aside,) = (tmp_path / "adapters").glob("damaged-*/*")
    assert (aside.name, (aside / WEIGHTS_FILE).read_bytes()) == (version, b"weig")
    assert store.publish(7, ORIGIN, _writer(b"weights")).version == version
    assert store.published() == [version]


def test_a_damaged_folder_is_replaced_by_the_same_content(store: AdapterStore) -> None:
    version = store.publish(7, ORIGIN, _writer(b"weights")).version
    (store.path(version) / MANIFEST_FILE).unlink()
    assert store.publish(7, ORIGIN, _writer(b"weights")).version == version
    assert store.verify(version).origin == ORIGIN


def test_a_copy_beside_a_version_is_no_version(store: AdapterStore) -> None:
    manifest = store.publish(7, ORIGIN, _writer(b"w"))
    copy = store.path(manifest.version).with_name(f"{manifest.version}.bak")
    copy.mkdir()
    assert store.find_batch(7, "abc", "base") == manifest
    assert store.published() == [manifest.version]
    assert copy.is_dir()


def test_only_scratch_of_lower_fences_is_swept(store: AdapterStore, tmp_path: Path) -> None:
    version = store.publish(7, ORIGIN, _writer(b"w")).version
    root = tmp_path / "adapters"
    for name in (".publish-2-a", ".publish-3-b", ".publish-0-import", ".swept-x"):
        (root / name).mkdir()
        (root / name / WEIGHTS_FILE).write_bytes(b"half")
    store.sweep_scratch(fence=3)
    assert sorted(p.name for p in root.iterdir()) == [".publish-0-import", ".publish-3-b", version]


def test_a_publisher_whose_scratch_was_swept_publishes_nothing(store: AdapterStore) -> None:
    def overtaken(folder: Path) -> None:
        _writer(b"w")(folder)
        store.sweep_scratch(fence=ORIGIN.fence + 1)

    with pytest.raises(OSError, match="No such file"):
        store.publish(7, ORIGIN, overtaken)
    assert store.published() == []


def test_a_removed_version_is_gone(store: AdapterStore, tmp_path: Path) -> None:
    store.remove(store.publish(7, ORIGIN, _writer(b"w")).version)
    assert list((tmp_path / "adapters").iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "null", "0" * 40])
def test_a_manifest_that_is_none_is_refused(store: AdapterStore, text: str) -> None:
    version = store.publish(7, ORIGIN, _writer(b"w")).version
    (store.path(version) / MANIFEST_FILE).write_text(text)
    with pytest.raises(AdapterError, match="no readable"):
        store.verify(version)


def test_a_manifest_whose_files_are_no_table_is_refused(store: AdapterStore) -> None:
    manifest = store.publish(7, ORIGIN, _writer(b"w"))
    raw = json.dumps({**manifest.as_dict(), "files": 3})
    (store.path(manifest.version) / MANIFEST_FILE).write_text(raw)
    with pytest.raises(AdapterError, match="no readable"):
        store.verify(manifest.version)
