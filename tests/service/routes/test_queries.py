"""A query parameter that a route does not have is refused: it would change nothing, unseen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.service.application import RunningApp

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("method", "url", "name"),
    [
        ("POST", "/admin/versions?dry_run=true", "dry_run"),
        ("GET", "/v1/models?limit=3", "limit"),
        ("GET", "/admin/versions?limt=3", "limt"),
        ("PUT", "/v1/feedback/chatcmpl-1?thumb=up", "thumb"),
        ("POST", "/v1/chat/completions?api-version=1", "api-version"),
        ("GET", "/admin/explain/chatcmpl-1?text=true", "text"),
    ],
)
async def test_an_unknown_query_parameter_is_refused(
    running: RunningApp, method: str, url: str, name: str
) -> None:
    json = {"thumb": "up"} if method != "GET" else None
    response = await running.client.request(method, url, json=json)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", name)
    assert f"`{name}` is " in error["message"]


@pytest.mark.parametrize("url", ["/admin/versions?limit=3", "/v1/models", "/livez?x=1", "/?x=1"])
async def test_known_ones_and_those_of_pages_are_taken(running: RunningApp, url: str) -> None:
    assert (await running.client.get(url)).status_code == 200
