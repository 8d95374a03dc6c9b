from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from models.adapters import STATE_FILE
from tests.support.models.adapter_files import write_adapter, write_base, write_state

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service.operator import Operator


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_base(tmp_path / "tiny")
    monkeypatch.setenv("THUMBLOOP_BASE_MODEL", str(tmp_path / "tiny"))
    monkeypatch.setenv("THUMBLOOP_LORA_RANK", "2")
    monkeypatch.setenv("THUMBLOOP_LORA_ALPHA", "4")
    folder = tmp_path / "theirs"
    folder.mkdir()
    write_adapter(folder)
    write_state(folder)
    return folder


def test_an_adapter_comes_in_and_goes_out(operator: Operator, theirs: Path, tmp_path: Path) -> None:
    record = operator.ask("versions", "import", str(theirs), "--why", "From Ann.")
    version = record["version"]
    assert (record["state"], record["manifest"]["source"]) == ("candidate", "theirs")
    told = operator.ask("versions", "export", version, str(tmp_path / "a.zip"))
    assert told == {"version": version, "target": str(tmp_path / "a.zip"), "state": True}
    again = operator.run("versions", "import", str(tmp_path / "a.zip")).stdout
    assert "v000002-" in again
    assert "goes" not in again
    assert "is a candidate" in again
    operator.run("versions", "export", version, str(tmp_path / "plain"), "--no-state")
    assert not (tmp_path / "plain" / STATE_FILE).exists()


def test_a_dry_run_needs_no_record_and_imports_nothing(
    operator: Operator, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUMBLOOP_REDIS_URL", "redis://127.0.0.1:1")
    told = operator.ask("versions", "import", str(theirs), "--dry-run")
    assert told["has_state"] is True
    assert told["parameters"] == 44
    said = operator.run("versions", "import", str(theirs), "--dry-run").stdout
    assert "would be accepted: 44 parameters" in said
    assert not any((operator.data_dir / "adapters").iterdir())


def test_files_that_cannot_be_used_are_told_in_one_line(
    operator: Operator, theirs: Path, tmp_path: Path
) -> None:
    version = operator.ask("versions", "import", str(theirs))["version"]
    (tmp_path / "file").write_text("in the way")
    for words in (
        ("export", version, str(tmp_path / "file" / "a.zip")),
        ("export", version, str(tmp_path / ("a" * 300))),
    ):
        refused = operator.run("versions", *words, code=1).stderr
        assert refused.startswith("thumbloop: ")
        assert refused.count("\n") == 1


def test_a_refusal_is_one_line_and_leaves_nothing(operator: Operator, theirs: Path) -> None:
    write_adapter(theirs, r=64)
    for more in ([], ["--dry-run"]):
        result = operator.run("versions", "import", str(theirs), *more, code=1)
        assert "Its rank is 64" in result.stderr
    assert not any((operator.data_dir / "adapters").iterdir())
    assert operator.ask("versions", "list")[0]["version"] == "base"


def test_what_cannot_be_exported_is_told(operator: Operator, tmp_path: Path) -> None:
    version = operator.add_version(1)
    (tmp_path / "there").mkdir()
    for words, message in (
        ((version, str(tmp_path / "there")), "there already"),
        (("base", str(tmp_path / "x")), "not an adapter's id"),
        (("../x", str(tmp_path / "x")), "not an adapter's id"),
        (("v000009-000000000009", str(tmp_path / "x")), "no readable manifest"),
    ):
        result: Any = operator.run("versions", "export", *words, code=1)
        assert message in result.stderr
    assert not (tmp_path / "x").exists()


def test_a_base_that_is_missing_is_told(
    operator: Operator, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THUMBLOOP_BASE_MODEL")
    result = operator.run("versions", "import", str(theirs), code=1)
    assert "thumbloop models import" in result.stderr
