"""The engine on the real model against transformers, as ``bench/exactness.py`` does at length."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from exactness import TOLERANCE, Job, compare_greedy
from own_server import share_base
from swaps import publish_adapters

from models.base import load_base
from models.settings import LearnerSettings
from models.types import BASE, Message

pytestmark = [pytest.mark.real_model, pytest.mark.timeout(300)]

QUESTIONS = (
    "How do I boil an egg?",
    "Write a short poem about the sea, please.",
    "What is 12 times 12?",
    "Say “hello” in Grüezi-German 👋",
    "List three planets.",
    "Why?",
)


@pytest.mark.parametrize("runner", ["native", "transformers"])
def test_replies_of_base_and_adapter_in_one_batch_are_those_of_transformers(
    runner: str, tmp_path: Path
) -> None:
    share_base(tmp_path / "data")
    (manifest,) = publish_adapters(tmp_path / "data", 1)
    settings = LearnerSettings(data_dir=tmp_path / "data", dtype="float32", runner=runner)
    encode = load_base(settings).encode_chat
    jobs = [
        Job(encode([Message("user", question)]), (BASE, manifest.version)[number % 2])
        for number, question in enumerate(QUESTIONS)
    ]
    found = compare_greedy(settings, jobs, [manifest.version], tokens=24)
    assert found["replies_unlike_transformers"] == 0, found["first_unlike"]
    assert found["log_prob_error_max"] < TOLERANCE
