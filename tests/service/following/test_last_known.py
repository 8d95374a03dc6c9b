from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from service.following.last_known import LastKnown

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

V1, V2 = "v000001-000000000001", "v000002-000000000002"


def test_what_could_not_be_written_is_tried_again_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = LastKnown(tmp_path)
    known.remember(live=V1)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as now, caplog.at_level(logging.WARNING):
        now.setattr(os, "fsync", full)
        for _ in range(3):
            known.remember(live=V2)
    assert len(caplog.records) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["live.json"]
    assert LastKnown(tmp_path).live == V1
    known.remember(live=V2)
    assert LastKnown(tmp_path).live == V2


def test_what_is_written_already_is_not_written_again(tmp_path: Path) -> None:
    known = LastKnown(tmp_path)
    known.remember(live=V1)
    (tmp_path / "live.json").unlink()
    known.remember(live=V1)
    assert list(tmp_path.iterdir()) == []
