"""The table of keys is whole, and every script opens with its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import feedback.store
from feedback.store import keys

SCRIPTS = sorted((Path(feedback.store.__file__).parent / "lua").glob("*.lua"))
TABLE = set(re.findall(r"^\| ``(tl:[^`]+)``", keys.__doc__ or "", flags=re.MULTILINE))


def shape(key: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", key)


def test_every_key_of_the_module_is_in_its_table() -> None:
    constants = {
        value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)
    }
    built = {
        keys.completion("{}"),
        keys.feedback("{}"),
        keys.user("{}", "{}"),
        keys.deleting("{}", "{}"),
        "tl:external:{}",
        keys.version("{}"),
        keys.tally_votes("{}"),
        keys.tally_replies("{}"),
        keys.request("{}"),
        keys.replica("{}"),
        keys.api_key("{}"),
        "tl:run:{}",
    }
    assert keys.run(12) == "tl:run:12"
    assert re.fullmatch("tl:external:[0-9a-f]{64}", keys.external("k", "ann", "m"))
    assert (
        len({keys.external(*each) for each in (("a", "b", "c"), ("a", "bc", ""), ("", "ab", "c"))})
        == 3
    )
    assert constants | built == {shape(key) for key in TABLE}


def test_no_id_of_a_vote_names_another_record() -> None:
    others = [key.removeprefix(keys.feedback("")) for key in TABLE - {"tl:feedback:{id}"}]
    ids = [each for each in others if not each.startswith("tl:")]
    assert {"log", "ready"} < set(ids)
    assert [each for each in ids if keys.can_be_vote(each)] == []
    assert keys.can_be_vote("chatcmpl-1")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_opens_with_the_table_of_its_keys(script: Path) -> None:
    opening = script.read_text(encoding="utf-8").split("\n\n", 1)[0].splitlines()
    assert all(line.startswith("--") for line in opening)
    row = r"^-- (?:KEYS\[(\d)\] +|built +)?(tl:.+?)  +\w"
    rows = re.findall(row, "\n".join(opening), re.MULTILINE)
    assert rows or script.stem == "hashes"
    assert {shape(key) for _, key in rows} <= {shape(key) for key in TABLE}
    numbered = [int(number) for number, _ in rows if number]
    body = script.read_text(encoding="utf-8").replace("\n".join(opening), "")
    used = {int(number) for number in re.findall(r"KEYS\[(\d)\]", body)}
    assert numbered == sorted(numbered)
    assert used <= set(numbered)


def test_scripts_build_the_keys_that_python_builds() -> None:
    script = "return {READY, feedback_key(ARGV[1]), user_key(ARGV[1], ARGV[2])}"
    assert keys.lua(script).splitlines() == [
        "local READY = 'tl:feedback:ready'",
        "local function feedback_key(completion_id) return 'tl:feedback:' .. completion_id end",
        "local function user_key(owner, name) return 'tl:user:' .. owner .. ':' .. name end",
    ]
    assert keys.lua("return 1") == ""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_spells_no_key_itself(script: Path) -> None:
    lines = script.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "tl:" in line and not line.startswith("--")] == []
