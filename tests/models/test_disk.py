from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from models.disk import write_atomically

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    for content in (b"old", b"the new content"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "facts.json"
    write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as now:
        now.setattr(os, broken, full)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_is_on_the_disk_before_it_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "facts.json", []
    fsync = os.fsync

    def noted(handle: int) -> None:
        seen.append((os.path.isdir(f"/proc/self/fd/{handle}"), path.exists()))  # noqa: PTH112
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    write_atomically(path, b"new")
    assert seen == [(False, False), (True, True)]
