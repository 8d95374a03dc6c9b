"""The whole loop on the real model; the tests share a server and go on from one another."""

from __future__ import annotations

import contextlib
import math
import re
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from tests.support.e2e.site import LearnedVersion, WholeSite

pytestmark = [pytest.mark.real_model, pytest.mark.timeout(420)]


def test_openais_client_chats_with_the_base(site: WholeSite) -> None:
    assert site.server.get("/readyz")["serving"] == "base"
    reply = site.chat(temperature=0)
    assert reply.system_fingerprint == "base"
    assert reply.choices[0].message.content.strip()
    assert reply.usage.completion_tokens <= 12
    assert site.server.get("/admin/updates")["data"] == []


def test_openais_client_streams_the_same_reply(site: WholeSite) -> None:
    question = [{"role": "user", "content": "What is the capital of France?"}]
    asked = {"model": "policy", "messages": question, "max_tokens": 12, "temperature": 0}
    with site.client() as client:
        whole = client.chat.completions.create(**asked)
        chunks = list(client.chat.completions.create(**asked, stream=True))
    assert {chunk.system_fingerprint for chunk in chunks} == {"base"}
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert "Paris" in text


def test_thumbs_become_a_new_live_version_that_speaks(
    site: WholeSite, learned: LearnedVersion
) -> None:
    assert re.fullmatch(r"v000001-[0-9a-f]{12}", learned.version)
    assert learned.run["parent"] == "base"
    assert site.chat().system_fingerprint == learned.version
    with site.client() as client:
        chunks = client.chat.completions.create(
            model="policy",
            messages=[{"role": "user", "content": "Say hello."}],
            max_tokens=12,
            stream=True,
        )
        assert {chunk.system_fingerprint for chunk in chunks} == {learned.version}


def test_votes_name_the_version_that_learned_them(site: WholeSite, learned: LearnedVersion) -> None:
    for completion_id in learned.completion_ids:
        vote = site.feedback(completion_id)
        assert (vote["state"], vote["version"]) == ("learned", learned.version)


def test_a_run_reports_what_it_did(learned: LearnedVersion) -> None:
    report = learned.run["report"]
    assert (report["votes"], report["up"], report["down"]) == (6, 3, 3)
    assert report["dropped_missing"] == report["dropped_mismatched"] == 0
    assert 0 < report["tokens"] <= 6 * 12
    assert math.isfinite(report["loss_last"])
    assert report["grad_norm"] > 0
    assert {"start", "load", "score", "learn", "publish"} <= report["seconds"].keys()
    assert sum(report["seconds"].values()) < learned.run["finished_at"] - learned.run["claimed_at"]


def test_the_command_line_lists_the_version_as_live_with_its_approval(
    site: WholeSite, learned: LearnedVersion
) -> None:
    reply = site.chat()
    site.vote(reply.id, "up")
    listed = {each["version"]: each for each in site.server.command("versions", "list")}
    live, base = listed[learned.version], listed["base"]
    assert (live["state"], base["state"]) == ("live", "retired")
    assert (live["approval"], live["up"], live["down"]) == (1.0, 1, 0)
    assert (base["approval"], base["up"], base["down"]) == (0.5, 3, 3)


def test_the_live_version_survives_a_restart(site: WholeSite, learned: LearnedVersion) -> None:
    assert site.server.stop() == 0
    assert site.server.processes() == []
    site.server.start()
    assert site.chat().system_fingerprint == learned.version


@pytest.mark.long
def test_a_batch_whose_learner_was_killed_becomes_exactly_one_version(
    site: WholeSite, learned: LearnedVersion
) -> None:
    site.server.command("learning", "pause")
    site.chat_and_vote(6)
    site.server.command("learning", "resume")
    claimed = site.until_run(2, "claimed")
    frozen = {vote["completion_id"] for vote in claimed["batch"]}

    site.server.until(
        lambda: "Run 2: learn " in site.server.log("worker-learn"), 120, "the first step"
    )
    for victim in learn_workers(site.server.processes()):
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()

    done = site.until_run(2, "approved", "rejected", "quarantined")
    assert (done["state"], done["attempts"]) == ("approved", 2)
    assert {vote["completion_id"] for vote in done["batch"]} == frozen
    assert done["batch"] == claimed["batch"]
    site.until_served(done["version"])

    assert len(site.runs()) == 2
    versions = {each["version"] for each in site.server.command("versions", "list")}
    assert versions == {"base", learned.version, done["version"]}
    published = {folder.name for folder in (site.server.data_dir / "adapters").glob("v*")}
    assert published == versions - {"base"}
    for completion_id in frozen:
        vote = site.feedback(completion_id)
        assert (vote["state"], vote["version"]) == ("learned", done["version"])
    assert not frozen & {vote["completion_id"] for vote in learned.run["batch"]}
    assert site.server.get("/admin/updates")["learning"]["waiting_votes"] == 0


def learn_workers(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return the learn queue's worker and the process that it gave the update to."""
    parents = [each for each in processes if " -Q learn " in " ".join(each.cmdline())]
    assert len(parents) == 1
    children = [each for each in processes if each.ppid() == parents[0].pid]
    assert children
    return [*parents, *children]


def test_rollback_on_the_command_line_lets_the_base_speak(
    site: WholeSite, learned: LearnedVersion
) -> None:
    site.server.command("learning", "pause")
    back = ("--to", "base", "--why", "a test", "--yes")
    rollout = site.server.command("versions", "rollback", *back)
    assert rollout["live"] == "base"
    site.until_served("base")
    assert site.chat().system_fingerprint == "base"
    newest = site.server.get("/admin/audit")["data"][0]
    assert (newest["action"], newest["new"], newest["why"]) == ("rollback", "base", "a test")
    pinned = site.chat(model=f"policy@{learned.version}")
    assert pinned.system_fingerprint == learned.version


def test_sigterm_stops_everything(site: WholeSite, learned: LearnedVersion) -> None:
    before = site.server.processes()
    assert len(before) >= 6  # up, Redis, the API, beat and two workers
    assert site.server.stop() == 0
    assert site.server.processes() == []
