"""Numbers 8 and 12 once more with the real learner, on a tiny random Llama."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

import pytest

from models.gate.settings import CheckName
from tests.support.faults.learners import Electorate, Learners, balance
from tests.support.models.tiny_model import make_model

if TYPE_CHECKING:
    from feedback.store import Store
    from tests.support.faults.site import Site

pytestmark = [pytest.mark.anyio, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture
def learners(site: Site) -> Learners:
    made = Learners(site)
    make_model(site.data_dir / "model")
    site.environment |= {
        "THUMBLOOP_BASE_MODEL": str(site.data_dir / "model"),
        "THUMBLOOP_DTYPE": "float32",
        "THUMBLOOP_LORA_RANK": "2",
        "THUMBLOOP_CONTEXT_LENGTH": "128",
        "THUMBLOOP_LEARNER_THREADS": "1",
        "THUMBLOOP_LEASE": "2",
        # A random model goes anywhere in one update; what is broken here is the learner.
        "THUMBLOOP_GATE_ADVISORY": ",".join(get_args(CheckName)),
    }
    return made


async def test_the_real_learner_killed_at_its_points(store: Store, learners: Learners) -> None:
    electorate = Electorate(store)
    for point in ("learn.midst", "publish.files_written", "publish.after_rename", "probe.after"):
        await electorate.vote("udu")
        await learners.kill_at(point, "--torch")
        await learners.finish("--torch")
    books = await balance(store, electorate, learners.folder)
    print(f"kills {learners.kills}; {books}")
    assert (books.runs, books.found) == (4, 12)


async def test_the_real_learner_refuses_nan_and_learns_the_next_batch(
    store: Store, learners: Learners
) -> None:
    electorate = Electorate(store)
    await electorate.vote("ud", behaviour_logprobs=(-0.1, math.nan))
    seen = await learners.finish("--torch")
    assert [line["state"] for line in seen] == ["claimed", "claimed", "quarantined"]
    await electorate.vote("ud")
    (line,) = await learners.finish("--torch")
    print(f"{(await store.runs.get(1)).reason}; then {line}")
    assert (line["run"], line["state"]) == (2, "approved")
