"""A learner that computes nothing, and a workplace around it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.adapters import CONFIG_FILE, WEIGHTS_FILE, AdapterStore, Origin
from models.gate import Behaviour, GateFigures
from models.types import Progress
from workers.resources import UpdateResources
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from feedback.store import Store
    from models.adapters import Manifest
    from models.types import Sample

LIKE_THE_BASE = Behaviour(
    replies=8,
    mean_tokens=20.0,
    cut=0.5,
    empty=0.0,
    repetition=0.1,
    distinct=1.0,
    distinct_grams=0.9,
    other_script=0.0,
    common_words=0.4,
    praised=0.0,
    text_nats=3.0,
    end_nats=2.0,
    refusal=0.0,
    refused=0.0,
    harmless_refusal=0.0,
    agreement=0.0,
    flattery=0.0,
    begging=0.0,
)
GOOD = GateFigures(
    finite=True,
    kl_per_reply=2.0,
    kl_to_parent=1.0,
    candidate=LIKE_THE_BASE,
    base=LIKE_THE_BASE,
)


@dataclass
class Learned:
    content: bytes
    report: dict[str, Any]


@dataclass
class FakeLearner:
    """Writes the batch's hash as weights; counts what it was asked to do."""

    adapters: AdapterStore
    figures: GateFigures = GOOD
    learned: list[tuple[Sample, ...]] = field(default_factory=list)
    earlier: list[tuple[Sample, ...]] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    setbacks: list[int] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    during: Callable[[Callable[[Progress], None]], None] = lambda progress: None

    def learn(
        self,
        samples: Sequence[Sample],
        *,
        parent: str,
        seed: int,
        progress: Callable[[Progress], None],
        earlier: Sequence[Sample] = (),
        setbacks: int = 0,
    ) -> Learned:
        self.learned.append(tuple(samples))
        self.earlier.append(tuple(earlier))
        self.parents.append(parent)
        self.setbacks.append(setbacks)
        self.during(progress)
        content = hashlib.sha256(repr((samples, parent, seed)).encode()).digest()
        report = {"votes": len(samples), "loss": 0.5, "seconds": {"load": 1.0, "learn": 2.0}}
        return Learned(content, {**report, **self.report})

    def publish(
        self,
        learned: Learned,
        *,
        sequence: int,
        parent: str,
        batch_hash: str,
        fence: int,
        now: float,
    ) -> Manifest:
        def write(folder: Path) -> None:
            (folder / CONFIG_FILE).write_text("{}")
            (folder / WEIGHTS_FILE).write_bytes(learned.content)

        origin = Origin(
            parent=parent,
            run=sequence,
            batch_hash=batch_hash,
            fence=fence,
            base_model="fake",
            base_hash="0" * 64,
            created_at=now,
            figures=learned.report,
        )
        return self.adapters.publish(sequence, origin, write)

    def probe(self, version: str, progress: Callable[[Progress], None]) -> GateFigures:
        self.adapters.verify(version)
        progress(Progress("probe", 1, 1))
        return self.figures


def make_place(store: Store, data_dir: Path, **changes: Any) -> tuple[UpdateResources, FakeLearner]:
    options: dict[str, Any] = {"min_votes": 2, **changes}
    settings = WorkerSettings(data_dir=data_dir, **options)
    adapters = AdapterStore(settings.adapters_dir)
    learner = FakeLearner(adapters)
    place = UpdateResources(
        store, settings, adapters, make_learner=lambda: learner, clock=time.time
    )
    return place, learner
