"""Bounds by name in one text."""

from __future__ import annotations

import pytest
from pydantic import Field, ValidationError

from models.bounds import NamedBounds


class Limits(NamedBounds):
    height: float = Field(2.0, gt=0)
    step_length: float = Field(1.0, title="step length")


def test_what_a_text_does_not_name_keeps_its_default() -> None:
    assert Limits.model_validate(" Step length = 0.5 ,") == Limits(step_length=0.5)
    assert Limits.model_validate("step_length=3,height=1e-1") == Limits(height=0.1, step_length=3)
    assert Limits.model_validate("") == Limits()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("height", "write each bound as name=number, not 'height'"),
        ("height=", "write each bound as name=number"),
        ("hight=1", "no bound is called 'hight'; perhaps 'height' is meant"),
        ("weight of it all=1", "known are: height, step length"),
        ("height=1, HEIGHT=2", "'HEIGHT' is set twice"),
        ("height=0", "greater than 0"),
        ("height=tall", "valid number"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Limits.model_validate(text)
