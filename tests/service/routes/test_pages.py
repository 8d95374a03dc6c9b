from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from service.web import FOLDER

if TYPE_CHECKING:
    from feedback.store import Store
    from tests.support.service.application import RunningApp

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/", "/ops"])
async def test_a_page_may_load_only_what_the_server_itself_has(
    running: RunningApp, path: str
) -> None:
    answer = await running.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe-inline" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    loaded = re.findall(r'(?:src|href)="(/[^"#]*)', answer.text)
    assert loaded
    for address in loaded:
        assert (await running.client.get(address)).status_code == 200, address


async def test_files_are_asked_for_again_and_answered_briefly(running: RunningApp) -> None:
    name = next(FOLDER.glob("*.js")).name
    answer = await running.client.get(f"/static/{name}")
    assert answer.headers["cache-control"] == "no-cache"
    assert "javascript" in answer.headers["content-type"]
    again = await running.client.get(
        f"/static/{name}", headers={"if-none-match": answer.headers["etag"]}
    )
    assert again.status_code == 304


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/none.js"])
async def test_nothing_outside_the_folder_is_served(running: RunningApp, path: str) -> None:
    assert (await running.client.get(path)).status_code == 404


async def test_pages_need_no_key(running: RunningApp, store: Store) -> None:
    await store.keys.create("k", frozenset({"chat"}), now=1.0)
    await running.runtime.authenticator.refresh()
    assert (await running.client.get("/v1/models")).status_code == 401
    for path in ("/", "/ops", "/favicon.ico", f"/static/{next(FOLDER.glob('*.css')).name}"):
        assert (await running.client.get(path)).status_code == 200
