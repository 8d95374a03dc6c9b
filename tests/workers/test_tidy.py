from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from feedback.types import Audit, Replica
from models.adapters import MANIFEST_FILE
from models.errors import AdapterError
from models.versions import Activate, StartCanary
from tests.support.workers.fake_learner import Learned
from workers.observation import next_batch
from workers.tidy import tidy

if TYPE_CHECKING:
    from feedback.store import Store
    from feedback.types import Run
    from tests.support.store.fixtures import RecordVotes as VoteOn
    from tests.support.workers.fake_learner import FakeLearner
    from workers.resources import UpdateResources

pytestmark = pytest.mark.anyio


@pytest.fixture
async def versions(store: Store, workplace: tuple[UpdateResources, FakeLearner]) -> list[str]:
    """Twelve published versions, each learned from the one before, all approved."""
    _, learner = workplace
    made: list[str] = []
    for number in range(1, 13):
        manifest = learner.publish(
            Learned(bytes([number]), {}),
            sequence=number,
            parent=made[-1] if made else "base",
            batch_hash=f"batch-{number}",
            fence=1,
            now=float(number),
        )
        await store.versions.add(
            manifest.version,
            parent=made[-1] if made else "base",
            manifest=manifest.as_dict(),
            state="candidate" if number == 5 else "approved",
            now=float(number),
        )
        made.append(manifest.version)
    return made


@pytest.fixture
async def run(store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn) -> Run:
    place, _ = workplace
    await vote_on("ud")
    batch = await next_batch(store, place.settings)
    claimed = await store.runs.claim(batch, parent="base", min_votes=2, now=1.0)
    assert claimed is not None
    return claimed


async def test_what_is_in_use_and_the_newest_keep_their_weights(
    store: Store,
    workplace: tuple[UpdateResources, FakeLearner],
    versions: list[str],
    run: Run,
) -> None:
    place, _ = workplace
    for version in (versions[0], versions[2]):  # the first becomes `previous`
        await store.rollout.do(Activate(version), Audit("ann", "", 20.0))
    pinned = Replica("r", versions[3], ("base", versions[3], versions[6]), 1, 20.0)
    await store.replicas.report(pinned, timedelta(seconds=60))
    await tidy(store, place.adapters, run, keep=3)
    stay = [versions[at] for at in (0, 2, 3, 4, 6, 9, 10, 11)]
    assert place.adapters.published() == stay
    for gone in set(versions) - set(stay):
        with pytest.raises(AdapterError, match="THUMBLOOP_KEEP_VERSIONS"):
            place.adapters.verify(gone)
        kept = place.adapters.path(gone).parent / "removed" / f"{gone}.json"
        assert kept.is_file()
        record = await store.versions.get(gone)
        assert (record.manifest["version"], record.removed) == (gone, True)
    assert not any([(await store.versions.get(version)).removed for version in stay])
    assert (place.adapters.path(stay[0]) / MANIFEST_FILE).is_file()


async def test_a_canary_and_the_confirmed_version_stay(
    store: Store,
    workplace: tuple[UpdateResources, FakeLearner],
    versions: list[str],
    run: Run,
) -> None:
    place, _ = workplace
    await store.rollout.do(Activate(versions[1]), Audit("ann", "", 20.0))  # confirms it
    for version in versions[2:4]:
        await store.rollout.do(Activate(version), Audit("learner", "", 20.0))
    await store.rollout.do(StartCanary(versions[0], 0.5), Audit("ann", "", 20.0))
    rollout = await store.rollout.get()
    assert (rollout.confirmed, rollout.canary) == (versions[1], versions[0])
    await tidy(store, place.adapters, run, keep=1)
    assert place.adapters.published() == [versions[at] for at in (0, 1, 2, 3, 4, 11)]


async def test_nothing_goes_while_there_are_few(
    store: Store,
    workplace: tuple[UpdateResources, FakeLearner],
    versions: list[str],
    run: Run,
) -> None:
    place, _ = workplace
    await tidy(store, place.adapters, run, keep=place.settings.keep_versions)
    assert place.adapters.published() == versions
