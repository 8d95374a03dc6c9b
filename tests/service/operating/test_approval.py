from __future__ import annotations

import pytest

from feedback.types import Rollout, VersionRecord
from service.operating.approval import kl_of, version_row


def test_a_version_without_votes_has_no_interval() -> None:
    row = version_row(VersionRecord("v", "live", "base", 1.0), Rollout("v", 1))
    assert (row["approval"], row["interval"]) == (None, None)
    row = version_row(VersionRecord("v", "live", "base", 1.0, up=15, down=133), Rollout("v", 1))
    assert row["interval"] == pytest.approx([0.0624, 0.1605], abs=5e-5)


@pytest.mark.parametrize(("figures", "kl"), [({"kl_per_reply": 2}, 2.0), ({}, None)])
def test_the_kl_is_the_gate_s(figures: dict[str, object], kl: float | None) -> None:
    assert kl_of(VersionRecord("v", "live", "base", 1.0, figures=figures)) == kl
