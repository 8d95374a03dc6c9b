"""``thumbloop explain``: the version that wrote a reply, and what learned the vote on it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from feedback.tracing import RUNS
from feedback.tracing import explain as explain_reply
from service.cli.output import JsonFlag, ago, print_json, print_table, say
from service.cli.record import with_store
from service.cli.traces import TextsFlag, print_made, print_texts

if TYPE_CHECKING:
    from feedback.tracing import CurrentVote, Explanation, LearnedBy


def explain(
    completion_id: Annotated[str, typer.Argument(help="A reply's id, such as chatcmpl-….")],
    *,
    texts: TextsFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Explain a reply: its version, the votes that made that version, and the reply's own vote."""
    found = with_store(lambda store: explain_reply(store, completion_id, texts=texts))
    if as_json:
        print_json(asdict(found))
        return
    _print_origin(found)
    say()
    _print_vote(found)


def _print_origin(found: Explanation) -> None:
    print_texts(found.completion_id, found.texts)
    when = f", {ago(found.created_at)}" if found.created_at else ""
    if found.by_base:
        say(f"The base wrote this reply{when}, so no vote had a part in it.")
    elif found.version is None:
        say(
            "The reply has expired or was deleted, so the version that wrote it is no longer known."
        )
    else:
        say(f"{found.version} wrote this reply{when}.")
    if found.made:
        say()
        print_made(found.made)


def _print_vote(found: Explanation) -> None:
    if found.vote:
        say(f"The vote on this reply is {_in_words(found.vote)}.")
    else:
        say(
            "The vote on this reply was withdrawn."
            if found.withdrawn
            else "This reply has no vote."
        )
    if found.learned_by:
        columns = ("run", "state", "how", "score", "stands", "version", "state", "served in")
        print_table(columns, [_cells(each) for each in found.learned_by], "")
    else:
        say("No update run has learned from this reply.")
    if not found.searched_all:
        say(f"Only the last {RUNS} runs were searched.")


def _in_words(vote: CurrentVote) -> str:
    if vote.thumb:
        said = f"thumb {vote.thumb}"
    elif vote.rating is not None:
        said = f"a rating of {vote.rating:g}"
    elif vote.comparison:
        said = f"{vote.comparison.side} against {vote.comparison.other}"
    else:
        said = "a comment alone, nothing to learn from"
    score = "" if vote.score is None else f", worth {vote.score:+.2f}"
    reason = f" ({vote.reason})" if vote.reason else ""
    return f"{said}{score}, {vote.state}{reason}, revision {vote.revision}"


def _cells(each: LearnedBy) -> tuple[object, ...]:
    return (
        each.run,
        each.run_state,
        "for practice" if each.how == "practice" else "in its batch",
        None if each.score is None else f"{each.score:+.2f}",
        "yes" if each.stands else "no",
        each.version,
        each.state.replace("_", " ") if each.state else None,
        ", ".join(each.served_in) or None,
    )
