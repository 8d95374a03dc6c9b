"""The operations page against the real application."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from feedback.types import Audit, Completion, FrozenVote, Judgement, Person, Replica, Vote
from models.types import Sampling
from models.versions import Activate

if TYPE_CHECKING:
    from playwright.async_api import Page

    from feedback.store import Store
    from feedback.types import Thumb
    from tests.support.service.pages import PageSite

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

OLD = "v000001-aaaaaaaaaaaa"
NEW = "v000002-bbbbbbbbbbbb"
ALICE = Person("open", "alice")


@pytest.fixture
async def versions(site: PageSite) -> None:
    for number, version in enumerate((OLD, NEW), start=1):
        await site.store.versions.add(
            version, parent="base", manifest={}, state="approved", now=float(number)
        )
    await site.store.rollout.do(Activate(OLD), Audit("test", "first", 3.0))


async def vote(store: Store, number: int, thumb: Thumb) -> None:
    """Record a completion by the old version, and a vote on it."""
    completion_id = f"chatcmpl-{number}"
    completion = Completion(
        id=completion_id,
        person=ALICE,
        conversation="",
        version=OLD,
        messages=(),
        text="",
        prompt_ids=(1,),
        response_ids=(2,),
        behaviour_logprobs=(-0.5,),
        sampling=Sampling(),
        finish_reason="stop",
        created_at=4.0,
    )
    await store.completions.record(completion)
    score = 1.0 if thumb == "up" else -1.0
    await store.votes.put(completion_id, ALICE, Vote(thumb=thumb), score, now=5.0)


async def test_it_shows_what_is_live_and_how_it_is_liked(
    site: PageSite, versions: None, page: Page
) -> None:
    for number, thumb in enumerate(["up"] * 8 + ["down"] * 2):
        await vote(site.store, number, thumb)
    await page.goto("/ops")
    await expect(page.locator("#live")).to_have_text("v000001")
    await expect(page.locator("#approval")).to_have_text("80 %")
    # Wilson's interval of 8 in 10, as tables give it: 0.490 to 0.943.
    await expect(page.locator("#approval-detail")).to_have_text("8 up, 2 down; 49 % to 94 %")
    await expect(page.locator("#learning-detail")).to_contain_text("10 of 16 votes wait")
    row = page.get_by_role("row", name="v000001")
    await expect(row.locator(".chip")).to_have_text(["live", "confirmed"])
    await expect(page.locator("#replica-count")).to_have_text("1 of 1")


async def test_another_version_is_activated_and_rolled_back(
    site: PageSite, versions: None, page: Page
) -> None:
    await page.goto("/ops")
    await page.get_by_role("button", name="Activate v000002").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Make v000002 live?")
    await dialog.get_by_label("Why").fill("looks better")
    await dialog.get_by_role("button", name="Activate").click()
    await expect(page.locator("#live")).to_have_text("v000002")
    assert (await site.store.rollout.get()).live == NEW
    assert (await site.store.rollout.events())[0].why == "looks better"
    await expect(page.locator("#audit li").first).to_contain_text("v000001 → v000002")

    await page.get_by_role("button", name="Roll back").click()
    await dialog.get_by_role("button", name="Roll back").click()
    await expect(page.locator("#live")).to_have_text("v000001")
    assert (await site.store.versions.get(NEW)).state == "rolled_back"


async def test_a_cancelled_question_changes_nothing(
    site: PageSite, versions: None, page: Page
) -> None:
    await page.goto("/ops")
    await page.get_by_role("button", name="Activate v000002").click()
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    assert (await site.store.rollout.get()).live == OLD


async def test_what_changed_meanwhile_is_not_overridden(
    site: PageSite, versions: None, page: Page
) -> None:
    await page.goto("/ops")
    await page.get_by_role("button", name="Activate v000002").click()
    await site.store.rollout.do(Activate("base"), Audit("test", "meanwhile", 6.0))
    await page.get_by_role("dialog").get_by_role("button", name="Activate").click()
    await expect(page.locator("#live")).to_have_text("base")
    assert (await site.store.rollout.get()).live == "base"


async def test_runs_unfold_their_report_and_stay_so(
    site: PageSite, versions: None, page: Page
) -> None:
    for number in range(2):
        await vote(site.store, number, "up")
    waiting = await site.store.votes.waiting(2)
    run = await site.store.runs.claim(waiting, parent=OLD, min_votes=2, now=6.0)
    report = {"kl_per_reply": 1.25, "loss_last": -0.5, "seconds": {"learn": 9.5}}
    version = f"v{run.number:06d}-cccccccccccc"
    await site.store.runs.commit(run, version=version, manifest={}, report=report, now=7.0)
    await page.goto("/ops")
    await expect(page.locator("#learning")).to_have_text(f"Run #{run.number}")
    row = page.get_by_role("row", name=f"#{run.number}").first
    await expect(row).to_contain_text("1.25")
    await row.get_by_role("button", name="Report").click()
    learned = page.locator(".report > div", has_text="seconds.learn")
    await expect(learned).to_contain_text("9.5")
    async with page.expect_response("**/admin/updates"):
        pass
    await expect(learned).to_be_visible()


async def test_learning_is_paused_resumed_and_asked_for(
    site: PageSite, versions: None, page: Page
) -> None:
    await page.goto("/ops")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.locator("#learning")).to_have_text("Paused")
    assert await site.store.learning.paused()
    await page.get_by_role("button", name="Resume").click()
    await expect(page.locator("#learning")).to_have_text("On")
    assert not await site.store.learning.paused()

    await page.get_by_role("button", name="Update now").click()
    await expect(page.get_by_text("An update was asked for")).to_be_visible()
    (request,) = await site.store.learning.waiting_requests()
    await site.store.learning.answer(request.id, run=None, answer="No votes wait.")
    await expect(page.get_by_text("No votes wait.")).to_be_visible()


async def test_it_needs_a_key_with_the_scope_admin(
    site: PageSite, versions: None, page: Page
) -> None:
    _, chat = await site.store.keys.create("chat", frozenset({"chat"}), now=1.0)
    _, admin = await site.store.keys.create("admin", frozenset({"admin"}), now=1.0)
    await site.until_keyed()
    await page.goto("/ops")
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Key").fill(chat)
    await page.get_by_role("button", name="Use this key").click()
    await expect(page.get_by_role("alert")).to_contain_text("scope “admin”")
    await page.get_by_role("alert").get_by_role("button", name="Enter a key").click()
    await dialog.get_by_label("Key").fill(admin)
    await page.get_by_role("button", name="Use this key").click()
    await expect(page.locator("#live")).to_have_text("v000001")


async def test_a_version_is_tried_on_some_users_and_the_trial_is_stopped(
    site: PageSite, versions: None, page: Page
) -> None:
    await page.goto("/ops")
    await expect(page.locator("#canary")).to_have_text("None")
    await expect(page.get_by_role("button", name="on some users")).to_have_count(1)
    await page.get_by_role("button", name="Try v000002 on some users").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Share of the users").fill("25")
    await dialog.get_by_label("Why").fill("a try")
    await dialog.get_by_role("button", name="Start the canary").click()
    await expect(page.locator("#canary")).to_have_text("v000002")
    await expect(page.locator("#canary-detail")).to_contain_text("for 25 % of the users")
    assert (await site.store.rollout.get()).fraction == 0.25
    # There is one at a time, and what is live or confirmed cannot be tried.
    await expect(page.get_by_role("button", name="on some users")).to_have_count(0)

    await page.get_by_role("button", name="Change the share").click()
    await expect(dialog.get_by_label("Share of the users")).to_have_value("25")
    await dialog.get_by_label("Share of the users").fill("50")
    await dialog.get_by_role("button", name="Change the share").click()
    await expect(page.locator("#canary-detail")).to_contain_text("for 50 % of the users")

    await page.get_by_role("button", name="Stop", exact=True).click()
    await dialog.get_by_role("button", name="Stop the canary").click()
    await expect(page.locator("#canary")).to_have_text("None")
    assert (await site.store.versions.get(NEW)).state == "approved"


async def test_the_kill_switch_is_worked_by_keyboard_and_asks_first(
    site: PageSite, versions: None, page: Page
) -> None:
    await page.goto("/ops")
    switch = page.get_by_role("button", name="Kill switch")
    await expect(switch).to_be_enabled()
    await switch.press("Enter")
    await expect(page.get_by_role("dialog")).to_contain_text("Serve the base to everyone?")
    await page.keyboard.press("Escape")
    await expect(page.locator("dialog")).to_have_count(0)
    assert (await site.store.rollout.get()).live == OLD

    await switch.press("Enter")
    await page.get_by_label("Why").press_sequentially("it begs")
    await page.keyboard.press("Enter")
    await expect(page.locator("#live")).to_have_text("base")
    await expect(page.locator("#learning")).to_have_text("Paused")
    await expect(switch).to_be_disabled()
    assert await site.store.learning.paused()
    newest = (await site.store.rollout.events(1))[0]
    assert (newest.action, newest.why) == ("kill", "it begs")
    await expect(page.locator("#audit li").first).to_contain_text("kill")


async def test_the_judge_s_verdict_is_shown(site: PageSite, versions: None, page: Page) -> None:
    await page.goto("/ops")
    await expect(page.locator("#verdict-detail")).to_have_text("it has not run yet")
    reasons = ("About 40 more votes are needed: 60% of 10 votes by 4 people.",)
    verdict = Judgement(
        time.time(), "hold", test=(NEW,), control=(OLD,), reasons=reasons, votes_needed=40
    )
    await site.store.judging.write(verdict)
    await expect(page.locator("#verdict")).to_have_text("Undecided")
    await expect(page.locator("#verdict-detail")).to_contain_text(
        "v000002 against v000001 · about 40 more votes"
    )
    await expect(page.locator("#verdict-reasons li")).to_have_text(reasons[0])


async def test_a_replica_that_lags_says_why(site: PageSite, versions: None, page: Page) -> None:
    lagging = Replica("other-1", "base", ("base",), 0, time.time(), "The disk is full.")
    await site.store.replicas.report(lagging, timedelta(seconds=60))
    await page.goto("/ops")
    await expect(page.locator("#replica-count")).to_have_text("1 of 2")
    item = page.locator("#replicas li", has_text="other-1")
    await expect(item).to_contain_text("The disk is full.")


async def test_older_entries_of_the_audit_are_shown_and_stay(
    site: PageSite, versions: None, page: Page
) -> None:
    for number in range(55):
        for version in (NEW, OLD):
            await site.store.rollout.do(Activate(version), Audit("test", f"n{number}", 9.0))
    await page.goto("/ops")
    await expect(page.locator("#audit li")).to_have_count(100)
    await page.get_by_role("button", name="Show older").click()
    await expect(page.locator("#audit li")).to_have_count(113)  # 110, the first one, two imports
    await expect(page.get_by_role("button", name="Show older")).to_have_count(0)
    await site.store.rollout.do(Activate(NEW), Audit("test", "the newest", 9.0))
    await expect(page.locator("#audit li").first).to_contain_text("the newest")
    await expect(page.locator("#audit li")).to_have_count(114)


async def test_a_reply_is_explained(site: PageSite, versions: None, page: Page) -> None:
    await vote(site.store, 1, "up")
    batch = [FrozenVote("chatcmpl-1", 1, 1.0)]
    run = await site.store.runs.claim(batch, parent=OLD, min_votes=1, now=6.0)
    version = f"v{run.number:06d}-cccccccccccc"
    await site.store.runs.commit(run, version=version, manifest={}, report={}, now=7.0)
    await site.store.runs.finish(run, "approved", figures={}, reason=None, now=7.0)
    await site.store.rollout.do(Activate(version), Audit("learner", "run 1", 8.0))
    await page.goto("/ops")
    await page.get_by_label("Id of the reply").fill("chatcmpl-1")
    await page.keyboard.press("Enter")
    shown = page.locator("#explained")
    await expect(shown).to_contain_text("v000001 wrote this reply")
    await expect(shown).to_contain_text("The vote on this reply is thumb up, learned.")
    await expect(shown).to_contain_text(f"Run {run.number} learned it: {version} live")
    await expect(shown).to_contain_text("part of what is live now")

    await page.get_by_label("Id of the reply").fill("chatcmpl-none")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("holds nothing of a reply")).to_be_visible()
