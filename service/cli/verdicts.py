"""Prints the judge's last verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.cli.output import ago, say
from service.operating.checks.rollout import VERDICTS

if TYPE_CHECKING:
    from feedback.types import Judgement


def print_judgement(judgement: Judgement | None) -> None:
    """Print the last verdict and its reasons, which say how many more votes it takes."""
    if judgement is None:
        say("judge      has not run yet; it needs a control worker and beat")
        return
    about = f" on {', '.join(judgement.test)}" if judgement.test else ""
    against = f" against {judgement.control[0]}" if judgement.control else ""
    say(f"judge      {VERDICTS[judgement.state]}{about}{against} ({ago(judgement.at)})")
    for reason in judgement.reasons:
        say(f"           {reason}")
    if judgement.acted:
        say(f"           done: {judgement.acted}")
