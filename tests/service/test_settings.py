from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from service.settings import ServiceSettings, is_loopback


def test_the_settings_below_are_part_of_it() -> None:
    settings = ServiceSettings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.min_votes == 16
    assert settings.max_rows == 32


def test_every_setting_is_described() -> None:
    for name, field in ServiceSettings.model_fields.items():
        assert field.description, name


def test_the_environment_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBLOOP_PORT", "9000")
    monkeypatch.setenv("THUMBLOOP_CORS_ORIGINS", "https://a.example/, https://b.example")
    monkeypatch.setenv("THUMBLOOP_HEARTBEAT", "2.5")
    settings = ServiceSettings()
    assert settings.port == 9000
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.heartbeat == timedelta(seconds=2.5)


def test_a_value_of_the_wrong_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBLOOP_PORT", "high")
    with pytest.raises(ValidationError, match="port"):
        ServiceSettings()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
