"""A tiny random Llama with the real tokenizer, and adapters for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from models.adapters import AdapterStore, Origin
from models.base.loading import load_base
from models.policy.policy import Policy
from models.probes.questions import ProbeQuestion, plain_text, questions
from models.recipe import THUMBLOOP
from models.settings import LearnerSettings
from tests.support.models.tiny_model import CHECKOUT_DATA, make_model
from tests.support.models.tokenizers import TokenizersReadOnce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def shared_data_dir() -> Path:
    """The checkout's own data folder: the base model is imported there once, as `make run` does."""
    return CHECKOUT_DATA


@pytest.fixture(scope="session", autouse=True)
def tokenizers_read_once() -> Iterator[None]:
    """Let each base load with a tokenizer that was read before, if it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.base.loading.AutoTokenizer", TokenizersReadOnce())
        yield


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_model(folder)
    return folder


@pytest.fixture(scope="session")
def build_dir(shared_data_dir: Path) -> Path:
    """Where the checkout's compiled code is kept, which is named by its source."""
    folder = shared_data_dir / "native"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def settings(tiny_folder: Path, tmp_path: Path, build_dir: Path) -> LearnerSettings:
    """Return settings of a tiny base, which learns from votes alone."""
    (tmp_path / "native").symlink_to(build_dir)
    return LearnerSettings(
        data_dir=tmp_path,
        recipe=replace(THUMBLOOP, practice_rounds=0),
        base_model=str(tiny_folder),
        dtype="float32",
        lora_rank=2,
        lora_alpha=4,
        context_length=128,
        max_rows=4,
        prefill_chunk=16,
        max_queue=8,
    )


@pytest.fixture
def few_questions(monkeypatch: pytest.MonkeyPatch) -> tuple[ProbeQuestion, ...]:
    """Let the gate ask four everyday questions and one of each other kind, and read one text."""
    most = {"everyday": 4}
    kinds: dict[str, list[ProbeQuestion]] = {}
    for question in questions():
        kinds.setdefault(question.about, []).append(question)
    few = tuple(q for about, each in kinds.items() for q in each[: most.get(about, 1)])
    monkeypatch.setattr("models.probes.probe.questions", lambda: few)
    monkeypatch.setattr("models.probes.scoring.plain_text", lambda: plain_text()[:1])
    return few


@pytest.fixture
def make_version(settings: LearnerSettings) -> Callable[[int], str]:
    """Publishes a random adapter under a sequence number; returns its version id."""

    def make(sequence: int, scale: float = 0.2) -> str:
        base = load_base(settings)
        policy = Policy(base, settings)
        random = torch.Generator().manual_seed(sequence)
        with torch.no_grad():
            for master in policy.master.values():
                master.copy_(torch.randn(master.shape, generator=random) * scale)
        origin = Origin(
            parent="base",
            run=sequence,
            batch_hash=f"batch-{sequence}",
            fence=1,
            base_model=base.name,
            base_hash=base.content_hash,
            created_at=0.0,
        )
        return AdapterStore(settings.adapters_dir).publish(sequence, origin, policy.save).version

    return make
