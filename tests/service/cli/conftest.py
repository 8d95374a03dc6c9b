"""Runs commands against a real, empty Redis, as an operator would."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.service.operator import Operator

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis


@pytest.fixture
def operator(
    tmp_path: Path, redis_url: str, empty_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> Operator:
    monkeypatch.setenv("THUMBLOOP_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("THUMBLOOP_REDIS_URL", redis_url)
    return Operator(tmp_path, redis_url, empty_redis)
