"""The engine on the real model against transformers, as ``bench.exactness`` does at length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from bench.exactness import TOLERANCE, Reference, compare_greedy
from bench.support.adapters import publish_adapters
from bench.support.decoding import Job
from bench.support.own_server import share_base
from models.base.loading import load_base
from models.settings import LearnerSettings
from models.types import BASE, Message

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.real_model, pytest.mark.timeout(300)]

TOKENS = 24
QUESTIONS = (
    "How do I boil an egg?",
    "Write a short poem about the sea, please.",
    "What is 12 times 12?",
    "Say “hello” in Grüezi-German 👋",
    "List three planets.",
    "Why?",
)


@dataclass(frozen=True)
class Expected:
    """What transformers replies, as the base and as an adapter by turns."""

    data_dir: Path
    version: str
    jobs: tuple[Job, ...]
    replies: tuple[list[int], ...]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    data_dir = tmp_path_factory.mktemp("decoding") / "data"
    share_base(data_dir)
    (manifest,) = publish_adapters(data_dir, 1)
    settings = LearnerSettings(data_dir=data_dir, dtype="float32")
    encode = load_base(settings).encode_chat
    jobs = tuple(
        Job(encode([Message("user", question)]), (BASE, manifest.version)[number % 2])
        for number, question in enumerate(QUESTIONS)
    )
    replies = Reference(settings).replies(jobs, TOKENS)
    return Expected(data_dir, manifest.version, jobs, tuple(replies))


@pytest.mark.parametrize("runner", ["native", pytest.param("transformers", marks=pytest.mark.long)])
def test_replies_of_base_and_adapter_in_one_batch_are_those_of_transformers(
    runner: str, expected: Expected
) -> None:
    settings = LearnerSettings(data_dir=expected.data_dir, dtype="float32", runner=runner)
    found = compare_greedy(settings, expected.jobs, [expected.version], expected.replies, TOKENS)
    assert found["replies_unlike_transformers"] == 0, found["first_unlike"]
    assert found["log_prob_error_max"] < TOLERANCE
