from __future__ import annotations

import pytest

from models.probes import texts
from models.probes.questions import plain_text, questions


def test_repetition_counts_three_grams_seen_before_in_the_same_reply() -> None:
    # 1 2 3 | 2 3 1 | 3 1 2 | 1 2 3 again: one of four
    assert texts.repetition([[1, 2, 3, 1, 2, 3]]) == 0.25
    assert texts.repetition([[1, 2, 3], [1, 2, 3]]) == 0.0
    assert texts.repetition([[7] * 10]) == pytest.approx(7 / 8)
    assert texts.repetition([[1, 2]]) == 0.0


def test_distinct_grams_are_counted_across_replies() -> None:
    # 123 234 | 123 235: three of four
    assert texts.distinct_grams([[1, 2, 3, 4], [1, 2, 3, 5]]) == 0.75
    assert texts.distinct_grams([[1, 2]]) == 1.0


def test_what_a_reply_shares_is_counted_over_the_other_questions() -> None:
    # To three questions, twice each; 123 is said to two, 234 to all, and twice to the first one.
    replies = [[1, 2, 3, 4], [2, 3, 4], [2, 3, 4, 5], [6, 7, 8], [1, 2, 3], [2, 3, 4]]
    found = texts.shared_grams(replies, to_each=2)
    assert found == [pytest.approx((1 / 2 + 2 / 2) / 2), 1.0, 0.5, 0.0, 0.5, 1.0]
    assert texts.shared_grams([[1, 2], [1, 2]], to_each=1) == [0.0, 0.0]
    assert texts.shared_grams([[1, 2, 3, 1, 2, 3], [1, 2, 3]], to_each=1) == [
        pytest.approx(1 / 3),
        1.0,
    ]
    assert texts.shared_grams([[1, 2, 3], [1, 2, 3]], to_each=2) == [0.0, 0.0]  # one question


def test_letters_of_a_script_that_the_question_has_not_are_counted() -> None:
    # 5 Latin letters, 5 Cyrillic ones; the second question is in Cyrillic itself
    assert texts.other_script(["What?"], ["Hello привет".replace("т", "")]) == 0.5
    assert texts.other_script(["Что?"], ["привет"]) == 0.0
    assert texts.other_script(["Café?"], ["naïve 123 !? 😀"]) == 0.0
    assert texts.other_script(["What?"], ["123"]) == 0.0


def test_common_words_are_a_share_of_all_words() -> None:
    assert texts.common_words(["The cat is here", "Zyx!"]) == pytest.approx(3 / 5)
    assert texts.common_words(["I\N{RIGHT SINGLE QUOTATION MARK}m"]) == 1.0
    assert texts.common_words(["42 !"]) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "What a great question!",
        "You are absolutely brilliant.",
        "You\N{RIGHT SINGLE QUOTATION MARK}re so smart",
        "Please give me a thumbs up.",
        "I hope you will rate my answer",
        "Please don't go!",
    ],
)
def test_praise_and_begging_are_recognised(text: str) -> None:
    assert texts.praised([text, "The sea is blue."]) == 0.5


@pytest.mark.parametrize(
    "text",
    ["You are welcome.", "That is a great film.", "You are in France.", "Thumb your nose."],
)
def test_ordinary_courtesy_is_no_praise(text: str) -> None:
    assert texts.praised([text]) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot assist you.",
        "I won't provide this.",
        "That would be illegal.",
    ],
)
def test_refusals_are_recognised(text: str) -> None:
    assert texts.refused([text, "Sure, first you take"]) == 0.5


@pytest.mark.parametrize("text", ["I can help you.", "I don't like rain.", "Sorry I'm late"])
def test_other_sentences_are_no_refusals(text: str) -> None:
    assert texts.refused([text]) == 0.0


def test_the_questions_are_all_different_and_have_what_they_need() -> None:
    asked = questions()
    assert len({q.prompt for q in asked}) == len(asked)
    counts: dict[str, int] = {}
    for question in asked:
        counts[question.about] = counts.get(question.about, 0) + 1
        compared = question.about != "everyday"
        assert bool(question.good) == bool(question.bad) == compared
    assert counts == {
        "everyday": 24,
        "false claim": 16,
        "harmful": 16,
        "harmless": 6,
        "flattery": 6,
        "begging": 6,
    }
    assert len(plain_text()) == 4


def test_the_bad_replies_are_what_the_word_lists_know() -> None:
    # Lists and questions are written apart; where they disagree, one of them is wrong.
    harmful = [q for q in questions() if q.about == "harmful"]
    assert texts.refused([q.good for q in harmful]) >= 0.8
    assert texts.refused([q.bad for q in harmful]) == 0.0
