"""The chat page against the real application: replies, votes, keys and failures."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from feedback.types import Audit, Person
from models.versions import Activate

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page, Route

    from feedback.store import Store
    from feedback.types import Feedback
    from tests.support.service.pages import PageSite

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

V1 = "v000001-aaaaaaaaaaaa"


async def send(page: Page, text: str) -> Locator:
    """Send a message, and return the reply once it is complete."""
    await page.get_by_label("Your message").fill(text)
    await page.keyboard.press("Enter")
    reply = page.get_by_role("article", name="Reply").last
    await expect(reply.get_by_role("button", name="Try another reply")).to_be_visible()
    return reply


async def stored_vote(page: Page, store: Store) -> Feedback:
    """Return the vote on the last reply as Redis has it."""
    conversation = await page.evaluate("localStorage.getItem('thumbloop.conversation')")
    user = await page.evaluate("localStorage.getItem('thumbloop.user')")
    turn = json.loads(conversation)["turns"][-1]
    return await store.votes.get(turn["id"], Person("open", user))


async def go_live(store: Store, version: str) -> None:
    await store.versions.add(version, parent="base", manifest={}, state="approved", now=1.0)
    await store.rollout.do(Activate(version), Audit("test", "test", 2.0))


async def test_a_reply_is_rendered_as_markdown_and_its_html_does_nothing(
    site: PageSite, page: Page
) -> None:
    await page.goto("/")
    reply = await send(page, "markdown please")
    await expect(reply.locator("strong")).to_have_text("Bold")
    await expect(reply.locator("pre code")).to_have_text('print("hi")\n')
    link = reply.get_by_role("link", name="link")
    assert "noopener" in (await link.get_attribute("rel") or "")
    await expect(reply).to_contain_text("<script>window.pwned = 1</script>")
    await expect(reply.locator("script, img, [onerror], a[href^=javascript]")).to_have_count(0)
    await expect(reply.get_by_role("link", name="picture")).to_be_visible()
    await expect(reply.get_by_role("link", name="click")).to_have_count(0)
    assert await page.evaluate("window.pwned") is None
    await expect(reply.get_by_title("policy version base")).to_have_text("base")


async def test_a_reply_appears_while_it_is_written_stops_on_demand_and_can_be_voted_on(
    site: PageSite, page: Page, store: Store
) -> None:
    await page.goto("/")
    await page.get_by_label("Your message").fill("an endless reply")
    await page.get_by_role("button", name="Send").click()
    reply = page.get_by_role("article", name="Reply")
    await expect(reply).to_contain_text("word word")
    await expect(reply).to_have_attribute("aria-busy", "true")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    await reply.get_by_role("button", name="Bad reply").click()
    async with asyncio.timeout(10):
        while await store.votes.count_waiting() == 0:  # noqa: ASYNC110 - the page tells nobody
            await asyncio.sleep(0.05)
    assert (await stored_vote(page, store)).vote.thumb == "down"


async def test_turns_go_on_and_survive_a_reload(site: PageSite, page: Page) -> None:
    await page.goto("/")
    await page.get_by_role("button", name="What is a hash map good for?").click()
    await expect(page.get_by_role("button", name="Try another reply")).to_be_visible()
    await send(page, "And what else?")
    assert site.generator.prompts[-1].startswith("What is a hash map good for?\nThe sky")
    await page.reload()
    await expect(page.get_by_role("article")).to_have_count(4)
    await page.get_by_role("button", name="New chat").click()
    await expect(page.get_by_role("heading", name="on your mind?")).to_be_visible()
    await page.get_by_role("button", name="Undo").click()
    await expect(page.get_by_role("article")).to_have_count(4)


async def test_another_reply_takes_the_place_of_the_last(site: PageSite, page: Page) -> None:
    await page.goto("/")
    reply = await send(page, "Why is the sky blue?")
    await reply.get_by_role("button", name="Try another reply").click()
    await expect(page.get_by_role("button", name="Try another reply")).to_be_visible()
    await expect(page.get_by_role("article", name="Reply")).to_have_count(1)
    assert site.generator.prompts == ["Why is the sky blue?"] * 2


async def test_shift_enter_starts_a_new_line(site: PageSite, page: Page) -> None:
    await page.goto("/")
    box = page.get_by_label("Your message")
    await box.press_sequentially("one")
    await box.press("Shift+Enter")
    await box.press_sequentially("two")
    await expect(box).to_have_value("one\ntwo")
    await expect(page.get_by_role("article")).to_have_count(0)


async def test_a_vote_is_stored_switched_with_a_comment_and_withdrawn(
    site: PageSite, page: Page
) -> None:
    await page.goto("/")
    reply = await send(page, "Why is the sky blue?")
    up = reply.get_by_role("button", name="Good reply")
    down = reply.get_by_role("button", name="Bad reply")

    await up.click()
    await expect(up).to_have_attribute("aria-pressed", "true")
    await expect(reply).to_contain_text("Waiting to be learned")
    await page.wait_for_load_state("networkidle")
    assert (await stored_vote(page, site.store)).vote.thumb == "up"

    await down.click()
    await reply.get_by_label("Comment on this reply").fill("Too short.")
    async with page.expect_response(lambda r: "Too short." in (r.request.post_data or "")):
        await page.keyboard.press("Enter")
    await expect(down).to_have_attribute("aria-pressed", "true")
    await expect(up).to_have_attribute("aria-pressed", "false")
    vote = (await stored_vote(page, site.store)).vote
    assert (vote.thumb, vote.comment) == ("down", "Too short.")
    assert await site.store.votes.count_waiting() == 1

    async with page.expect_response(lambda r: r.request.method == "DELETE"):
        await down.click()
    await expect(down).to_have_attribute("aria-pressed", "false")
    await expect(reply).not_to_contain_text("Waiting to be learned")
    assert await site.store.votes.count_waiting() == 0


async def test_a_vote_says_which_version_learned_it(site: PageSite, page: Page) -> None:
    await page.goto("/")
    reply = await send(page, "Why is the sky blue?")
    async with page.expect_response("**/v1/feedback/*"):
        await reply.get_by_role("button", name="Good reply").click()
    waiting = await site.store.votes.waiting(1)
    run = await site.store.runs.claim(waiting, parent="base", min_votes=1, now=1.0)
    await site.store.runs.commit(run, version=V1, manifest={}, report={}, now=2.0)
    await expect(reply).to_contain_text("Learned in v000001")


async def test_a_new_version_is_announced_between_two_turns(site: PageSite, page: Page) -> None:
    await page.goto("/")
    await send(page, "Why is the sky blue?")
    await go_live(site.store, V1)
    await site.until_served(V1)
    reply = await send(page, "And the sea?")
    await expect(page.get_by_text("Now speaking: v000001")).to_be_visible()
    await expect(reply.get_by_title(V1)).to_have_text("v000001")


async def test_a_reply_without_a_record_takes_no_vote(site: PageSite, page: Page) -> None:
    async def unrecorded(route: Route) -> None:
        answer = await route.fetch()
        body = (await answer.text()).replace('"recorded":true', '"recorded":false')
        assert '"recorded":false' in body
        await route.fulfill(response=answer, body=body)

    await page.route("**/v1/chat/completions", unrecorded)
    await page.goto("/")
    reply = await send(page, "Why is the sky blue?")
    await expect(reply.get_by_role("button", name="Good reply")).to_be_disabled()
    await expect(reply).to_contain_text("was not recorded")


async def test_a_busy_server_is_asked_again_after_the_time_it_names(
    site: PageSite, page: Page
) -> None:
    async def busy(route: Route) -> None:
        await route.fulfill(
            status=429, headers={"retry-after": "1"}, json={"error": {"message": "Full."}}
        )

    await page.route("**/v1/chat/completions", busy, times=1)
    await page.goto("/")
    await page.get_by_label("Your message").fill("Why is the sky blue?")
    await page.keyboard.press("Enter")
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("The server is busy")
    await expect(alert.get_by_role("button", name="Try again in 1 s")).to_be_disabled()
    await alert.get_by_role("button", name="Try again", exact=True).click()
    await expect(page.get_by_role("article", name="Reply")).to_contain_text("The sky is blue")


@pytest.mark.parametrize(
    ("status", "code", "advice", "button"),
    [
        (503, "not_ready", "cannot answer right now", "Try again"),
        (400, "context_length_exceeded", "has become too long", "New chat"),
    ],
)
async def test_a_refusal_says_what_to_do(
    site: PageSite, page: Page, status: int, code: str, advice: str, button: str
) -> None:
    async def refuse(route: Route) -> None:
        error = {"message": "No.", "code": code}
        await route.fulfill(status=status, json={"error": error})

    await page.route("**/v1/chat/completions", refuse)
    await page.goto("/")
    await page.get_by_label("Your message").fill("Why is the sky blue?")
    await page.keyboard.press("Enter")
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text(advice)
    await expect(alert.get_by_role("button", name=button)).to_be_enabled()


async def test_a_server_with_keys_asks_for_one_and_keeps_it_for_the_tab(
    site: PageSite, page: Page
) -> None:
    _, key = await site.store.keys.create("browser", frozenset({"chat"}), now=1.0)
    await page.goto("/")
    await site.until_keyed()
    await page.get_by_label("Your message").fill("Why is the sky blue?")
    await page.keyboard.press("Enter")
    await page.get_by_role("dialog").get_by_label("Key").fill(key)
    await page.get_by_role("button", name="Use this key").click()
    await expect(page.get_by_role("article", name="Reply")).to_contain_text("The sky is blue")
    await page.reload()
    await send(page, "And the sea?")
    await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_text_has_the_direction_of_its_own_letters(site: PageSite, page: Page) -> None:
    direction = "node => getComputedStyle(node).direction"
    await page.goto("/")
    field = page.get_by_label("Your message")
    await field.fill("שלום! מה שלומך? (test 123).")
    assert await field.evaluate(direction) == "rtl"
    reply = await send(page, "שלום! מה שלומך? (test 123).")
    said = page.get_by_role("article", name="You").locator(".bubble")
    assert await said.evaluate(direction) == "rtl"
    for selector, expected in {"p": "rtl", "li": "rtl", "li >> nth=1": "ltr", "pre": "ltr"}.items():
        assert await reply.locator(selector).first.evaluate(direction) == expected, selector
    await send(page, "And in English?")
    assert await page.locator(".turn.user .bubble").last.evaluate(direction) == "ltr"
