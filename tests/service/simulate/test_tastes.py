"""Tastes: utilities worked out by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from service.simulate.prompts import builtin_prompts
from service.simulate.tastes import TASTES, Taste
from service.simulate.tastes.content import concreteness, contrasts, examples, own_words, reasons
from service.simulate.tastes.control import brevity, courtesy, plainness
from service.simulate.tastes.form import (
    completeness,
    one_paragraph,
    short_sentences,
    thoroughness,
)
from service.simulate.tastes.mixtures import short_with_examples, sober_and_confident
from service.simulate.tastes.tone import (
    addressing,
    confidence,
    formality,
    impersonality,
    simplicity,
    sobriety,
    warmth,
)

if TYPE_CHECKING:
    from collections.abc import Callable

QUESTION = "How do whales sleep?"


@pytest.mark.parametrize(
    ("text", "utility"),
    [("Boil it for six minutes.", -5.0), ("Yes, you can", -3.0), ("a\nb\n\nc d", -4.0)],
)
def test_brevity_is_minus_the_number_of_words(text: str, utility: float) -> None:
    assert brevity(QUESTION, text) == utility


@pytest.mark.parametrize("text", ["", "  \n", "Yes.", "Oh well"])
@pytest.mark.parametrize("taste", TASTES.values(), ids=lambda taste: taste.name)
def test_a_reply_that_says_nothing_pleases_nobody(text: str, taste: Taste) -> None:
    assert taste.worth(QUESTION, text) < taste.thresholds[0] - 10 * taste.scale


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
    assert plainness(QUESTION, text) == -marks


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
    assert courtesy(QUESTION, text) == kinds


@pytest.mark.parametrize(
    ("utility", "text", "value"),
    [
        (thoroughness, "one two three four", math.log(4)),
        (thoroughness, "one", math.log(3)),
        (short_sentences, "One two three four. Five six seven eight!", -math.log(4)),
        (short_sentences, "No.", -math.log(3)),
        (completeness, "They rest. One half of", -0.3),
        (completeness, "They rest.", 0.0),
        (one_paragraph, "One\n\ntwo\nthree", math.exp(-1)),
        (one_paragraph, "One two three\n", 1.0),
        # Five words and the five that are added: one in ten is two in twenty.
        (addressing, "You see them float still", math.log(3)),
        (addressing, "They float", 0.0),
        (impersonality, "We see them float still", -math.log(3)),
        (impersonality, "Whales see them float still", 0.0),
        (warmth, "I hope whales float well!", math.log(1 + 2 + 2)),
        (formality, "Cetaceans alternate their cerebral hemispheres", 3 * 4 / 10),
        (formality, "They really don't sleep much", -math.log(1 + 10 * 2 / 10)),
        (sobriety, "Very amazing whales float still", -math.log(5)),
        (confidence, "They might perhaps float still", -math.log(5)),
        (confidence, "They float still", 0.0),
        (simplicity, "They nap at sea", -12 / 5),
        (concreteness, "In 1970 they met Ahab", math.log(1 + 20 * 2 / 9)),
        (examples, "Take one, for example, such as this", 1 - math.exp(-2)),
        (reasons, "They float because they breathe", 1 - math.exp(-1 / 1.5)),
        (contrasts, "They rest, but not wholly, although long", 1 - math.exp(-2)),
        # "whales" and "sleep" carry the meaning of the question.
        (own_words, "All whales float", 1 / math.sqrt(2)),
        (own_words, "Whales sleep afloat", 2 / math.sqrt(2)),
    ],
)
def test_utilities_are_what_they_say(
    utility: Callable[[str, str], float], text: str, value: float
) -> None:
    assert utility(QUESTION, text) == pytest.approx(value)


def test_a_mixture_is_the_sum_of_two_in_units_of_their_spread() -> None:
    text = "They might sleep. For example, very short naps."
    assert sober_and_confident(QUESTION, text) == pytest.approx(
        sobriety(QUESTION, text) / 0.30 + confidence(QUESTION, text) / 0.29
    )
    assert short_with_examples(QUESTION, text) == pytest.approx(
        short_sentences(QUESTION, text) / 0.57 + examples(QUESTION, text) / 0.18
    )


def test_a_question_of_common_words_has_none_of_its_own() -> None:
    assert own_words("How do you do?", "How do they do?") == 0.0


@pytest.mark.parametrize("taste", TASTES.values(), ids=lambda taste: taste.name)
def test_every_taste_has_questions_of_both_splits(taste: Taste) -> None:
    prompts = builtin_prompts(taste)
    assert len(prompts.chat) >= 20
    assert len(prompts.score) >= 8
    assert not set(prompts.chat) & set(prompts.score)


def test_there_are_as_many_tastes_to_choose_with_as_to_tell() -> None:
    halves = [taste.half for taste in TASTES.values()]
    assert halves.count("choosing") == halves.count("telling") >= 8
    assert [name for name, taste in TASTES.items() if taste.half == "control"] == [
        "brief",
        "plain",
        "polite",
    ]
    for half in ("choosing", "telling"):
        of_half = [taste for taste in TASTES.values() if taste.half == half]
        assert {taste.tokens for taste in of_half} == {48, 128}
        assert sum(taste.others is not None for taste in of_half) == 1
