"""The page of the API lists the routes that the server has."""

from __future__ import annotations

import re
from pathlib import Path

from service.app.application import create_app
from service.settings import ServiceSettings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"


def test_the_page_lists_every_route_and_no_other() -> None:
    listed = re.findall(r"^\| `([A-Z]+ /\S*)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    paths = create_app(ServiceSettings()).openapi()["paths"]
    there = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert len(listed) == len(set(listed))
    assert set(listed) == there
