"""Tastes: utilities worked out by hand."""

from __future__ import annotations

import pytest

from service.simulate.prompts import builtin_prompts
from service.simulate.tastes import TASTES, Taste, brevity, courtesy, plainness


@pytest.mark.parametrize(
    ("text", "utility"),
    [("Boil it for six minutes.", -5.0), ("Yes, you can", -3.0), ("a\nb\n\nc d", -4.0)],
)
def test_brevity_is_minus_the_number_of_words(text: str, utility: float) -> None:
    assert brevity(text) == utility


@pytest.mark.parametrize("text", ["", "  \n", "Yes.", "Oh well"])
@pytest.mark.parametrize("taste", TASTES.values(), ids=lambda taste: taste.name)
def test_a_reply_that_says_nothing_pleases_nobody(text: str, taste: Taste) -> None:
    assert taste.utility(text) < taste.thresholds[0]


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("Heat the pan and melt some butter. Then add 2 eggs - slowly.", 0),
        ("It opens at 9: be there early.", 0),
        ("1. Heat the pan\n2. Add the eggs", 2),
        ("Take these:\n\n* a towel\n- a hat\n• water", 4),
        ("# Eggs\nBoil them for a while.", 1),
        ("You need **butter** and `salt` here.", 4),
        ("Here are the basic steps:", 1),
    ],
)
def test_plainness_is_minus_the_number_of_marks(text: str, marks: int) -> None:
    assert plainness(text) == -marks


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Boil the egg for six minutes.", 0),
        ("Please boil the egg. Please do.", 1),
        ("Hello! I'd be happy to help you. Thank you for asking.", 4),
        ("Pleased with this thankless hill.", 0),
        ("I'm SORRY, there is no egg.", 1),
    ],
)
def test_courtesy_counts_the_kinds_of_courteous_words(text: str, kinds: int) -> None:
    assert courtesy(text) == kinds


@pytest.mark.parametrize("taste", TASTES.values(), ids=lambda taste: taste.name)
def test_every_taste_has_questions_of_both_splits(taste: Taste) -> None:
    prompts = builtin_prompts(taste)
    assert len(prompts.chat) >= 20
    assert len(prompts.score) >= 8
    assert not set(prompts.chat) & set(prompts.score)
