"""Open WebUI's event function against a real server: its ratings are our votes, each once."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.support.service.application import ListeningApp

FILE = Path(__file__).parents[3] / "deploy" / "open-webui" / "thumbs.py"


class OpenWebUi:
    """Open WebUI as far as the function sees it: chats with headers, and a table of ratings."""

    def __init__(self, url: str, function: ModuleType, state: Path) -> None:
        self.url, self.function = url, function
        self.ratings: dict[str, SimpleNamespace] = {}
        self.settings = function.Valves(url=f"{url}/v1", state_file=str(state))

    def chat(self, message: str, user: str = "u-1", **headers: str) -> str:
        said = {
            "X-OpenWebUI-Chat-Id": "c-1",
            "X-OpenWebUI-Message-Id": message,
            "X-OpenWebUI-User-Id": user,
        }
        body = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}]}
        url = f"{self.url}/v1/chat/completions"
        return str(httpx.post(url, json=body, headers=said | headers).json()["id"])

    def rate(self, name: str, message: str, rating: Any, user: str = "u-1", **data: Any) -> None:
        self.ratings[name] = SimpleNamespace(
            id=name,
            user_id=user,
            data={"rating": rating, "model_id": "policy", **data},
            meta={"chat_id": "c-1", "message_id": message},
        )

    def notice(self, monkeypatch: pytest.MonkeyPatch, name: str = "feedback.updated") -> None:
        """Give the function an event; it says nothing of the rating, as in 0.10.2."""

        async def all_ratings() -> list[Any]:
            return list(self.ratings.values())

        monkeypatch.setattr(self.function, "all_ratings", all_ratings)
        monkeypatch.setattr(self.function, "valves", self.settings)
        asyncio.run(self.function.event({"event": name, "data": {"rating": None}}))

    def vote(self, completion_id: str, user: str = "u-1") -> dict[str, Any]:
        url = f"{self.url}/v1/feedback/{completion_id}"
        found: dict[str, Any] = httpx.get(url, params={"user": user}).json()
        return found


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("open_webui_thumbs", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def webui(listening: ListeningApp, function: ModuleType, tmp_path: Path) -> OpenWebUi:
    return OpenWebUi(listening.url, function, tmp_path / "state" / "votes.json")


def test_a_thumb_there_is_a_vote_here_changes_and_disappears_with_it(
    webui: OpenWebUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = webui.chat("m-1")
    webui.rate("f-1", "m-1", 1, reason="accurate_information", comment="Good.")
    webui.notice(monkeypatch, "feedback.created")
    vote = webui.vote(reply)
    assert (vote["thumb"], vote["tags"], vote["comment"]) == (
        "up",
        ["accurate_information"],
        "Good.",
    )
    webui.rate("f-1", "m-1", -1, reason="accurate_information", comment="")  # the old reason stays
    webui.notice(monkeypatch)
    vote = webui.vote(reply)
    assert (vote["thumb"], vote["tags"], vote["comment"]) == ("down", [], None)
    del webui.ratings["f-1"]
    webui.notice(monkeypatch, "feedback.deleted")
    assert webui.vote(reply)["error"]["code"] == "completion_not_found"


def test_replayed_and_lost_events_change_nothing(
    webui: OpenWebUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = webui.chat("m-1"), webui.chat("m-2", user="u-2")
    webui.rate("f-1", "m-1", "1")
    webui.notice(monkeypatch)
    webui.notice(monkeypatch)
    webui.rate("f-2", "m-2", -1, user="u-2")  # its event is lost
    webui.notice(monkeypatch, "system.startup.completed")
    votes = [webui.vote(first), webui.vote(second, "u-2")]
    assert [(v["thumb"], v["revision"]) for v in votes] == [("up", 1), ("down", 1)]
    del webui.ratings["f-1"], webui.ratings["f-2"]
    webui.notice(monkeypatch)
    webui.notice(monkeypatch)
    assert "error" in webui.vote(first)
    assert "error" in webui.vote(second, "u-2")


def test_a_vote_that_nobody_took_is_sent_with_the_next_event(
    webui: OpenWebUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = webui.chat("m-1")
    webui.rate("f-1", "m-1", 1)
    webui.settings.url, there = "http://127.0.0.1:9", webui.settings.url
    webui.notice(monkeypatch)
    assert "error" in webui.vote(reply)
    webui.settings.url = there
    webui.notice(monkeypatch)
    assert webui.vote(reply)["thumb"] == "up"


def test_what_is_no_thumb_or_no_reply_of_ours_is_passed_over(
    webui: OpenWebUi, monkeypatch: pytest.MonkeyPatch
) -> None:
    title = webui.chat("m-1", **{"X-OpenWebUI-Task": "title_generation"})
    reply = webui.chat("m-2")
    webui.rate("f-1", "m-1", 1)
    webui.rate("f-2", "m-of-another-model", 1)
    webui.rate("f-3", "m-2", None)
    webui.rate("f-4", "m-2", 0)
    webui.ratings["f-5"] = SimpleNamespace(id="f-5", user_id="u-1", data=None, meta=None)
    webui.notice(monkeypatch)
    webui.notice(monkeypatch, "chat.created")
    assert "error" in webui.vote(title)
    assert "error" in webui.vote(reply)
