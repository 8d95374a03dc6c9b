"""How an update learns: the method, apart from what an operator decides of the machine.

Two recipes come with Thumbloop, and a TOML file can hold one of your own. ``THUMBLOOP_RECIPE``
chooses between them.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from models.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Strict: neither "4" nor true is a number in a file.
Positive = Annotated[float, Field(gt=0, strict=True)]
ZeroOrMore = Annotated[float, Field(ge=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
CountOrZero = Annotated[int, Field(ge=0, strict=True)]

_BASED_ON = "based_on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The method of an update; the equations are in docs/internals/update.md.

    Raises:
        RecipeError: Two fields do not go together.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(use_attribute_docstrings=True)

    learning_rate: Positive = 1.6e-3
    """Adam's step size."""
    rate_warmup_steps: CountOrZero = 8
    """Optimiser steps of a new adapter over which its rate rises to the whole."""
    rate_decay_steps: Positive = 64.0
    """Optimiser steps of an adapter's life after which its rate has fallen by 1/√2; `inf` keeps
    the rate."""
    adam_eps: Positive = 1e-4
    """What Adam adds to the root of a weight's mean squared gradient: far above that root, large
    gradients move more than small ones; far below it, all gradients move alike."""
    max_grad_norm: Positive = 1.0
    """Bound of the gradient's global norm."""

    iteration_votes: CountOrZero = 16
    """Fewest votes of one PPO iteration: a batch of at least twice as many is learned in several
    iterations, each from where the one before it ended; 0 always learns in one."""
    epochs: Count = 4
    """Passes over an iteration's votes (N)."""
    minibatch: CountOrZero = 8
    """Replies of one optimiser step; 0 takes the whole iteration."""
    max_step_kl: Positive = 0.1
    """KL per token to the start of an iteration that ends its epochs."""

    clip: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.2
    """How far below 1 a token's ratio may count."""
    clip_high: Positive = 0.2
    """How far above 1 a token's ratio may count; more teaches faster, and strays further."""
    stale_votes: Literal["decoupled", "none"] = "decoupled"
    """How votes on replies of earlier versions are corrected for: by a weight beside the clip, or
    not at all."""
    behaviour_cap: Annotated[float, Field(ge=1, strict=True)] = 2.0
    """The most that the weight of a stale reply's token may be."""
    max_drift: Positive = 0.5
    """Nats a token by which the policy may have moved away from a disliked reply before the reply
    is left out; `inf` keeps all."""

    advantage: Literal["expected", "leave_one_out", "critic", "none"] = "expected"
    """What a vote is compared with: what a model of the other votes expects of the reply (without
    practice there is none, and it is as the next); the other votes and its user's past; a learned
    critic; or nothing."""
    user_prior: Positive = 2.0
    """Past votes of a user that weigh as much as the batch's baseline."""
    critic_rate: Positive = 1e-3
    """Adam's step size for the critic's head."""

    kl_target: Positive = 10.0
    """Nats of KL to the base per reply from which on β holds the policy back."""
    kl_coefficient: ZeroOrMore = 0.05
    """The KL coefficient β where the KL per reply is at its target."""
    kl_power: ZeroOrMore = 3.0
    """The power of the KL, as a part of its target, with which β grows; 0 fixes β."""
    kl_form: Literal["loss", "reward", "weighted", "added"] = "loss"
    """Where the KL to the base counts: as a loss, in the reward of a token and all earlier ones, or
    in the token's own return as in the article: `weighted` is 0.8 · vote - 0.2 · KL, `added` is
    vote - β · KL."""
    kl_estimate: Literal["sampled", "full"] = "sampled"
    """Whether the KL in rewards and returns is of the sampled tokens or of whole distributions; as
    a loss it is always of whole distributions."""

    length_form: Literal["constant", "token"] = "constant"
    """What divides the sum over a reply's tokens: the length constant, or the mean length of the
    minibatch."""
    length_constant: Positive = 64.0
    """Tokens that weigh 1 together."""

    corrections: ZeroOrMore = 0.0
    """Coefficient of a likelihood loss on the corrections that people wrote beside their votes; 0
    learns from none."""
    correction_tokens: Count = 256
    """Most tokens of a correction that are learned."""

    practice_rounds: CountOrZero = 3
    """Rounds of practice after the votes: the policy answers people's questions, and learns from
    what a reward model expects people to say of its replies; 0 is no practice."""
    practice_prompts: Count = 16
    """Questions that a round of practice asks."""
    practice_replies: Annotated[int, Field(ge=2, strict=True)] = 4
    """Replies to each question of a round of practice."""
    practice_tokens: Count = 128
    """Most tokens of a reply in practice, where the replies that were voted on are longer."""
    practice_epochs: Count = 1
    """Passes over the replies of a round of practice."""
    reward_model_votes: Annotated[int, Field(ge=16, le=2048, strict=True)] = 256
    """Most votes, the newest, that the reward model of practice is fitted to."""

    def __post_init__(self) -> None:
        """Refuse a critic where there are no rewards that it could learn."""
        if self.advantage == "critic" and self.kl_form in {"weighted", "added"}:
            raise RecipeError(
                "the advantage `critic` needs rewards, but the KL forms `weighted` and `added` "
                "give returns: set kl_form to `loss` or `reward`"
            )


THUMBLOOP = Recipe()
"""Our own method: PPO with baselines, corrected for late votes, held near the base."""

ARTICLE = Recipe(
    advantage="none",
    stale_votes="none",
    max_drift=math.inf,
    learning_rate=4e-4,
    adam_eps=1e-5,
    rate_warmup_steps=0,
    rate_decay_steps=math.inf,
    epochs=4,
    minibatch=0,
    clip=0.2,
    clip_high=0.2,
    max_step_kl=math.inf,
    iteration_votes=0,
    kl_form="weighted",
    kl_estimate="sampled",
    kl_coefficient=1.0,
    kl_power=0.0,
    length_form="token",
    corrections=0.0,
    practice_rounds=0,
)
"""J. Lages, "Reinforcement Learning from Human Feedback": nothing but its six steps."""

NAMED: Mapping[str, Recipe] = {"thumbloop": THUMBLOOP, "article": ARTICLE}


@cache
def find(name: str) -> Recipe:
    """Return the recipe of this name, or the one in the TOML file at this path.

    A process reads a file once, so that no later change of the file can stop the judge.

    Raises:
        RecipeError: There is no such recipe, or the file does not hold one.
    """
    return NAMED[name] if name in NAMED else load(Path(name))


def load(path: Path) -> Recipe:
    """Read a recipe of one's own from a TOML file.

    The keys are the fields of ``Recipe``. A field that the file leaves out is as in the recipe
    that its key ``based_on`` names, which is ``thumbloop`` where that is left out too.

    Raises:
        RecipeError: The file is not there, is no TOML, or has an unknown key or a bad value.
    """
    given = _read(path)
    base = given.pop(_BASED_ON, "thumbloop")
    if not isinstance(base, str) or base not in NAMED:
        raise RecipeError(f"{path}: {_BASED_ON} cannot be {base!r}: write {_either(NAMED)}.")
    known = [field.name for field in fields(Recipe)]
    for key in given:
        if key not in known:
            closest = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {closest[0]}?" if closest else f"known are {', '.join(known)}."
            raise RecipeError(f"{path}: no recipe has the key {key!r}: {hint}")
    try:
        return TypeAdapter(Recipe).validate_python({**asdict(NAMED[base]), **given})
    except ValidationError as error:
        raise RecipeError(f"{path}: {_first(error)}.") from error


def described(recipe: Recipe) -> dict[str, Any]:
    """Return the named recipe that one is nearest to, and the fields in which it differs.

    The result is JSON-able and has the form of a file: ``{"based_on": "article", "epochs": 2}``.
    """
    values = asdict(recipe)
    differences = [
        {_BASED_ON: name, **{key: _plain(values[key]) for key in values if values[key] != own[key]}}
        for name, own in ((name, asdict(each)) for name, each in NAMED.items())
    ]
    return min(differences, key=len)


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it, which has no infinity."""
    return "inf" if value == math.inf else value


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            f"The recipe {path} cannot be read ({error.strerror}): name {_either(NAMED)}, or the "
            "path of a TOML file."
        ) from error
    except (ValueError, RecursionError) as error:  # also of bytes that are no UTF-8
        raise RecipeError(f"The recipe {path} is not TOML: {error}.") from error


def _either(names: Mapping[str, Recipe]) -> str:
    return " or ".join(names)


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    if not first["loc"]:  # several fields that do not go together
        return first["msg"].removeprefix("Value error, ")
    return f"{first['loc'][0]} cannot be {first['input']!r}: {first['msg']}"
