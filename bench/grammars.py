"""Tokens a second with and without a grammar, side by side in one run, and whether all are valid.

    python -m bench.grammars

The real base decodes sixteen replies at a time, in turns without a grammar and with one: a
different random schema for each reply, 200 in all. Without one, each reply is as long as its twin
was with one, so that both turns decode the same shapes. Each reply that ends by itself is judged
by jsonschema.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any

import jsonschema

from bench.support.machine import describe, write_results
from bench.support.own_server import share_base
from bench.support.progress import say
from models.base.loading import load_base
from models.decoding.bank import AdapterBank
from models.decoding.engine import Engine
from models.decoding.grammars import Grammars
from models.decoding.runners import make_runner
from models.settings import LearnerSettings
from models.types import BASE, GenerationRequest, Message, Sampling
from tests.support.models.json_schemas import random_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.base.loading import Base
    from models.decoding.grammars import GrammarMatcher

ROWS, SCHEMAS, TOKENS = 16, 200, 96
QUESTION = "Describe somebody you know, as JSON."
"""Without a grammar, the same question is answered in prose."""


@dataclass(frozen=True, slots=True)
class Round:
    """Sixteen replies that were decoded together."""

    texts: Sequence[str]
    ended: Sequence[bool]
    lengths: Sequence[int]
    seconds: float
    compiling: float


def one_round(
    base: Base,
    engine: Engine,
    grammars: Grammars,
    schemas: Sequence[Any],
    lengths: Sequence[int] | None = None,
) -> Round:
    """Decode a reply for each schema; with ``lengths``, of any text and at most so long."""
    began = time.perf_counter()
    matchers: list[GrammarMatcher | None] = [
        grammars.matcher(json.dumps(schema)) if lengths is None else None for schema in schemas
    ]
    compiling = time.perf_counter() - began
    prompt = base.encode_chat([Message("user", QUESTION)])
    for number, matcher in enumerate(matchers):
        most = TOKENS if lengths is None else lengths[number]
        sampling = Sampling(max_tokens=most, seed=number)
        request = GenerationRequest(str(number), prompt, BASE, sampling)
        engine.scheduler.submit(engine.make_row(request, matcher))
    ids: list[list[int]] = [[] for _ in schemas]
    began = time.perf_counter()
    while not engine.scheduler.idle:
        for new in engine.step():
            ids[int(new.row.id)].append(new.token.id)
    seconds = time.perf_counter() - began
    return Round(
        texts=[base.tokenizer.decode([i for i in row if i not in base.end_ids]) for row in ids],
        ended=[row[-1] in base.end_ids for row in ids],
        lengths=[len(row) for row in ids],
        seconds=seconds,
        compiling=compiling,
    )


def measure(data: Path, count: int) -> dict[str, Any]:
    """Decode so many replies with a grammar, and as many without."""
    share_base(data)
    settings = LearnerSettings(data_dir=data, max_queue_per_user=ROWS)
    base = load_base(settings)
    engine = Engine(base, make_runner(base, settings), AdapterBank(), settings)
    vocabulary = base.model.get_output_embeddings().weight.shape[0]
    grammars = Grammars(base.tokenizer, vocabulary, base.end_ids)
    random = Random(1)
    schemas = [random_schema(random) for _ in range(count)]
    speeds: dict[bool, list[float]] = {True: [], False: []}
    ended = valid = 0
    compiling: list[float] = []
    one_round(base, engine, grammars, schemas[:ROWS])  # to warm up
    for first in range(0, count, ROWS):
        some = schemas[first : first + ROWS]
        held = one_round(base, engine, grammars, some)
        free = one_round(base, engine, grammars, some, held.lengths)
        for found, of in ((held, speeds[True]), (free, speeds[False])):
            of.append(sum(found.lengths) / found.seconds)
        compiling.append(held.compiling / len(some))
        ended += sum(held.ended)
        valid += sum(map(_is_valid, held.texts, some, held.ended))
        say(f"{first + len(some)} of {count}: {ended} ended, {valid} valid")
    with_grammar, without = median(speeds[True]), median(speeds[False])
    return {
        "schemas": count,
        "rows": ROWS,
        "ended": ended,
        "valid": valid,
        "tokens_a_second": {"with": with_grammar, "without": without},
        "ratio": with_grammar / without,
        "compiling_ms": 1000 * median(compiling),
    }


def _is_valid(text: str, schema: Any, ended: bool) -> bool:
    if not ended:
        return False
    try:
        jsonschema.validate(json.loads(text), schema)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schemas", type=int, default=SCHEMAS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thumbloop-grammars-") as folder:
        found = measure(Path(folder), options.schemas)
    write_results("grammars", {**found, "machine": describe()})
    speed = found["tokens_a_second"]
    print(f"{found['valid']} of {found['ended']} replies that ended are valid")
    print(
        f"{speed['with']:.0f} tokens a second with grammars, {speed['without']:.0f} without "
        f"({found['ratio']:.2f}); {found['compiling_ms']:.1f} ms to compile a schema"
    )


if __name__ == "__main__":
    main()
