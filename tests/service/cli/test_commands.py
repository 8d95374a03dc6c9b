from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from models.adapters import WEIGHTS_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from feedback.store import Store
    from tests.support.service.operator import Operator


def test_versions_are_listed_with_base(operator: Operator) -> None:
    version = operator.add_version(1)
    listed = operator.ask("versions", "list")
    assert [(v["version"], v["state"], v["approval"]) for v in listed] == [
        (version, "approved", None),
        ("base", "live", None),
    ]
    assert version in operator.run("versions", "list").stdout


def test_a_version_is_made_live_and_taken_back(operator: Operator) -> None:
    version = operator.add_version(1)
    assert operator.ask("versions", "activate", version)["live"] == version
    assert operator.ask("versions", "show", version)["state"] == "live"
    assert operator.ask("versions", "rollback", "--why", "rude", "--yes")["live"] == "base"
    assert operator.ask("versions", "show", version)["state"] == "rolled_back"
    event = operator.in_store(lambda store: store.rollout.events(1))[0]
    assert (event.action, event.why) == ("rollback", "rude")
    assert event.who.endswith("(command line)")


def test_a_version_whose_files_were_altered_is_not_made_live(operator: Operator) -> None:
    version = operator.add_version(1)
    (operator.data_dir / "adapters" / version / WEIGHTS_FILE).write_bytes(b"other")
    result = operator.run("versions", "activate", version, code=1)
    assert "was altered" in result.stderr
    assert operator.in_store(lambda store: store.rollout.get()).live == "base"


def test_an_expectation_that_does_not_hold_changes_nothing(operator: Operator) -> None:
    version = operator.add_version(1)
    words = ("versions", "activate", version, "--expected-live", "v000009-0123456789ab")
    assert "live version is base" in operator.run(*words, code=1).stderr


@pytest.mark.parametrize("version", ["v000009-0123456789ab", "../../etc"])
def test_a_version_that_is_not_there_is_one_clear_line(operator: Operator, version: str) -> None:
    result = operator.run("versions", "activate", version, code=1)
    assert result.stderr.startswith("thumbloop: ")
    assert "Traceback" not in result.output


def test_a_key_is_made_shown_once_and_revoked(operator: Operator) -> None:
    made = operator.ask("keys", "create", "front end", "--scope", "chat", "--scope", "admin")
    assert made["key"].startswith(f"tl_{made['public_id']}_")
    assert made["scopes"] == ["admin", "chat"]
    listed = operator.ask("keys", "list")
    assert [(k["public_id"], k["name"], k["revoked"]) for k in listed] == [
        (made["public_id"], "front end", False)
    ]
    assert made["key"] not in operator.run("keys", "list").stdout
    refused = operator.run("keys", "revoke", made["public_id"], code=1)
    assert "add --yes" in refused.stderr
    operator.run("keys", "revoke", made["public_id"], "--dry-run")
    assert not operator.ask("keys", "list")[0]["revoked"]
    operator.run("keys", "revoke", made["public_id"], "--yes")
    assert operator.ask("keys", "list")[0]["revoked"]
    assert operator.in_store(lambda store: store.keys.verify(made["key"])) is None


def test_a_key_can_chat_only_unless_told_otherwise(operator: Operator) -> None:
    assert operator.ask("keys", "create", "someone")["scopes"] == ["chat"]


def test_the_key_alone_is_on_standard_output(operator: Operator) -> None:
    printed = operator.run("keys", "create", "script").stdout
    assert printed.startswith("tl_")
    assert len(printed.split()) == 1


def test_revoking_an_unknown_key_fails(operator: Operator) -> None:
    assert "no key nobody" in operator.run("keys", "revoke", "nobody", code=1).stderr


def test_learning_is_paused_and_resumed(operator: Operator) -> None:
    assert operator.ask("learning", "pause") == {"paused": True}
    assert operator.in_store(lambda store: store.learning.paused())
    assert operator.ask("learning", "resume") == {"paused": False}
    assert not operator.in_store(lambda store: store.learning.paused())


def test_feedback_is_counted(operator: Operator) -> None:
    assert isinstance(operator.ask("feedback", "stats"), dict)


def answer_next_request(operator: Operator, *, run: int | None, answer: str) -> threading.Thread:
    async def respond(store: Store) -> None:
        while not (requests := await store.learning.waiting_requests()):
            time.sleep(0.01)  # noqa: ASYNC251 - a thread of its own, with nothing else to do
        await store.learning.answer(requests[0].id, run=run, answer=answer)

    thread = threading.Thread(target=operator.in_store, args=(respond,))
    thread.start()
    return thread


@pytest.mark.parametrize(("run", "code"), [(3, 0), (None, 1)])
def test_a_request_for_an_update_prints_the_answer(
    operator: Operator, run: int | None, code: int
) -> None:
    thread = answer_next_request(operator, run=run, answer="So it is.")
    assert operator.run("updates", "run", code=code).stdout == "So it is.\n"
    thread.join()


def test_a_request_that_nobody_answers_says_so(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.commands.updates.ANSWER_SECONDS", 0.1)
    assert "No worker answered" in operator.run("updates", "run", code=1).stderr


def test_runs_are_listed_and_an_unknown_one_is_an_error(operator: Operator) -> None:
    assert operator.ask("updates", "list") == []
    assert "There are no runs yet." in operator.run("updates", "list").stdout
    assert "no update run 7" in operator.run("updates", "show", "7", code=1).stderr


def test_without_redis_every_command_says_what_to_start(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THUMBLOOP_REDIS_URL")
    result = operator.run("versions", "list", code=1)
    assert result.stderr.count("\n") == 1
    assert f"Thumbloop is not running on the data folder {tmp_path}" in result.stderr


def test_a_single_part_becomes_the_program_it_stands_for(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _, command: became.append(command))
    operator.run("worker", "--queue", "learn")
    operator.run("beat")
    assert [command[1:3] for command in became] == [["-m", "celery"]] * 2
    assert ("learn" in became[0], "beat" in became[1]) == (True, True)


def test_the_command_line_starts_without_torch_and_celery() -> None:
    code = (
        "import sys, service.cli; print(sorted({'torch', 'celery', 'workers'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
