"""Simulates many seeds, or replays one: `make simulate SEEDS=10000`, `make simulate SEED=123`.

    --first 0 --seeds 200 --> seed after seed --> each that fails, at once, and how to replay it
    --seed 123            --> what happened, then how it failed
    --mutant N9           --> the same, without the mend of a bug; it ends at the first seed that fails

The exit code is 0 if no seed failed (with a mutant: if one did). The simulation runs in a process whose hashes of
strings have a fixed seed, so that a set has the same order in every run.
"""

import argparse
import logging
import os
import sys
import time
import traceback
from collections.abc import MutableMapping
from contextlib import ExitStack
from typing import Any

import structlog

from tests.simulation.mutants import MUTANTS
from tests.simulation.threads import Running
from tests.simulation.world import run_seed, simulating

HASH_SEED = "PYTHONHASHSEED"
PROGRESS = 100
"""Seeds after which a line says how many are done."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--mutant", choices=sorted(MUTANTS))
    given = parser.parse_args(arguments)
    if os.environ.get(HASH_SEED) != "0":
        os.execve(
            sys.executable, [sys.executable, "-m", "tests.simulation", *arguments], {**os.environ, HASH_SEED: "0"}
        )
    is_quiet = given.seed is None
    level = logging.CRITICAL if is_quiet else logging.INFO
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level), processors=[_shown])
    with ExitStack() as stack:
        stack.enter_context(simulating())
        if given.mutant:
            stack.enter_context(MUTANTS[given.mutant].taken_out())
        if given.seed is not None:
            return _replay(given.seed)
        num_failed = _simulate(range(given.first, given.first + given.seeds), stops_at_first=bool(given.mutant))
    return int(num_failed == 0) if given.mutant else int(num_failed > 0)


def _shown(_logger: Any, _level: str, event: MutableMapping[str, Any]) -> str:
    """Shows what the product logs in the trace."""
    fields = " ".join(f"{name}={value}" for name, value in event.items() if name != "event")
    Running.scheduler.show(f"log {event['event']} {fields}")
    raise structlog.DropEvent


def _simulate(seeds: range, *, stops_at_first: bool) -> int:
    """Runs seeds; returns how many failed."""
    num_failed = 0
    began_s = time.process_time()
    for number, seed in enumerate(seeds, start=1):
        failure = run_seed(seed).failure
        if failure is not None:
            num_failed += 1
            told = f"{type(failure).__name__}: {failure}"
            print(f"seed {seed} fails: {told}\n  replay it: make simulate SEED={seed}", flush=True)
            if stops_at_first:
                break
        if number % PROGRESS == 0 or number == len(seeds):
            pace = 60 * number / max(time.process_time() - began_s, 1e-6)
            print(f"{number} of {len(seeds)} seeds, {num_failed} failed, {pace:.0f} a minute of one core", flush=True)
    return num_failed


def _replay(seed: int) -> int:
    outcome = run_seed(seed)
    print("\n".join(outcome.trace))
    if outcome.failure is None:
        print(f"seed {seed} passes: {outcome.digest} {outcome.counts}")
        return 0
    print("".join(traceback.format_exception(outcome.failure)))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
