"""Recipes: two that come with Thumbloop, and files of one's own."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from models.errors import RecipeError
from models.recipe import ARTICLE, THUMBLOOP, Recipe, described, find, load

OF_THE_DOCS = Path(__file__).parents[2] / "docs" / "recipes"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


def test_recipes_have_names() -> None:
    assert find("thumbloop") == THUMBLOOP == Recipe()
    assert find("article") == ARTICLE


def test_the_article_has_nothing_that_it_does_not_name() -> None:
    found = ARTICLE
    assert (found.epochs, found.clip, found.clip_high, found.minibatch) == (4, 0.2, 0.2, 0)
    assert (found.advantage, found.stale_votes, found.kl_form) == ("none", "none", "weighted")
    assert found.max_step_kl == found.max_drift == found.rate_decay_steps == math.inf
    assert (found.kl_coefficient, found.kl_power) == (1.0, 0.0)
    assert (found.iteration_votes, found.rate_warmup_steps) == (0, 0)
    assert (found.corrections, found.practice_rounds) == (0.0, 0)


def test_a_file_changes_what_it_names_of_the_recipe_that_it_is_based_on(file: Path) -> None:
    file.write_text("clip_high = 2\nmax_drift = inf\n")
    assert load(file) == find(str(file)) == replace(THUMBLOOP, clip_high=2.0, max_drift=math.inf)
    file.write_text('based_on = "article"\nkl_form = "added"\n')
    assert load(file) == replace(ARTICLE, kl_form="added")
    file.write_text("")
    assert load(file) == THUMBLOOP


def test_a_process_reads_a_file_once(file: Path) -> None:
    file.write_text("minibatch = 16")
    found = find(str(file))
    file.write_text("minibatch = ")
    assert find(str(file)) is found


def test_a_recipe_is_described_by_the_named_one_that_it_is_nearest_to() -> None:
    assert described(THUMBLOOP) == {"based_on": "thumbloop"}
    assert described(replace(ARTICLE, epochs=2)) == {"based_on": "article", "epochs": 2}
    unbounded = replace(THUMBLOOP, max_drift=math.inf)
    assert described(unbounded) == {"based_on": "thumbloop", "max_drift": "inf"}


def test_the_recipe_with_a_critic_of_the_documentation_can_be_read() -> None:
    critic = replace(THUMBLOOP, advantage="critic", critic_rate=1e-3, kl_form="reward")
    assert load(OF_THE_DOCS / "critic.toml") == critic


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("minibatches = 4", "no recipe has the key 'minibatches': did you mean minibatch?"),
        ("qqq = 4", "no recipe has the key 'qqq': known are learning_rate, rate_warmup_steps,"),
        ('"a\\nb" = 4', r"no recipe has the key 'a\nb': known are learning_rate,"),
        ("epochs = 0", "epochs cannot be 0: Input should be greater than or equal to 1."),
        ('epochs = "4"', "epochs cannot be '4': Input should be a valid integer."),
        ("epochs = true", "epochs cannot be True: Input should be a valid integer."),
        ("learning_rate = nan", "learning_rate cannot be nan: Input should be greater than 0."),
        ("clip = 1.0", "clip cannot be 1.0: Input should be less than 1."),
        ("reward_model_votes = 4096", "reward_model_votes cannot be 4096: "),
        ('advantage = "best"', "advantage cannot be 'best': Input should be 'expected', "),
        ('based_on = "mine"', "based_on cannot be 'mine': write thumbloop or article."),
        ("based_on = [1]", "based_on cannot be [1]: write thumbloop or article."),
        ('based_on = "article"\nadvantage = "critic"', "set kl_form to `loss` or `reward`."),
        ("clip = ", "mine.toml is not TOML: Invalid value"),
        ("clip = " + "[" * 10_000, "mine.toml is not TOML: maximum recursion depth exceeded"),
    ],
)
def test_what_a_file_has_wrong_is_said_in_a_line(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load(file)
    said = str(caught.value)
    assert message in said
    assert str(file) in said
    assert len(said.splitlines()) == 1


def test_a_file_that_cannot_be_read_is_refused(file: Path) -> None:
    with pytest.raises(RecipeError, match="name thumbloop or article, or the path of a TOML file"):
        load(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="is not TOML"):
        load(file)


@pytest.mark.parametrize("form", ["weighted", "added"])
def test_a_critic_needs_rewards(form: str) -> None:
    with pytest.raises(RecipeError, match="set kl_form"):
        replace(ARTICLE, advantage="critic", kl_form=form)  # type: ignore[arg-type]


def test_each_field_is_described_in_a_sentence() -> None:
    described = TypeAdapter(Recipe).json_schema()["properties"]
    assert described.keys() == {field.name for field in fields(Recipe)}
    for name, field in described.items():
        assert field["description"].endswith("."), name
