"""``thumbs.js`` on a page of another origin, which has nothing but the reply's token."""

from __future__ import annotations

import http.server
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from feedback.types import Person

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.async_api import Browser, Page

    from tests.support.service.pages import PageSite

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

PAGE = """<!doctype html><title>Elsewhere</title><p id="reply"></p><div id="thumbs"></div>
<script type="module">
  const server = new URLSearchParams(location.search).get('server');
  const { stream, thumbs } = await import(`${server}/static/thumbs.js`);
  const body = { model: 'policy', user: 'ann', messages: [{ role: 'user', content: 'Why?' }] };
  const onText = (text) => { document.querySelector('#reply').textContent += text; };
  window.reply = await stream(`${server}/v1/chat/completions`, body, { onText });
  document.querySelector('#thumbs').append(thumbs(server, window.reply));
</script>
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "index.html").write_text(PAGE)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def cors_origins(elsewhere: str) -> tuple[str, ...]:
    return (elsewhere,)


async def test_a_page_of_another_origin_votes_with_the_token_of_its_reply_only(
    browser: Browser, site: PageSite, elsewhere: str
) -> None:
    page: Page = await browser.new_page()
    await page.goto(f"{elsewhere}/?server={site.url}")
    good, bad = (page.get_by_role("button", name=f"{each} reply") for each in ("Good", "Bad"))
    await expect(page.locator("#reply")).to_contain_text("The sky is blue")
    await good.click()
    await expect(good).to_have_attribute("aria-pressed", "true")
    reply = await page.evaluate("window.reply")
    found = await site.store.votes.get(reply["id"], Person("open", "ann"))
    assert (found.vote.thumb, found.revision) == ("up", 1)

    await bad.click()
    await expect(bad).to_have_attribute("aria-pressed", "true")
    await expect(good).to_have_attribute("aria-pressed", "false")
    found = await site.store.votes.get(reply["id"], Person("open", "ann"))
    assert (found.vote.thumb, found.revision) == ("down", 2)
    assert await site.store.votes.count_waiting() == 1

    await bad.click()  # a second click withdraws
    await expect(bad).to_have_attribute("aria-pressed", "false")
    assert await site.store.votes.count_waiting() == 0

    other = "chatcmpl-of-somebody-else"
    refusal = await page.evaluate(
        """async ([server, id, token]) => {
          const { vote } = await import(`${server}/static/thumbs.js`);
          return vote(server, { id, token }, 'up').catch((error) => error.message);
        }""",
        [site.url, other, reply["token"]],
    )
    assert "nothing else" in refusal
    await page.close()
