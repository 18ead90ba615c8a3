"""Gives row E11 of the ledger what belongs to the command line: the profiles, their encoders, a change under load.

profile --encoder_of--> name of its encoder, made at first use        the demo, base -> nano --> its figures
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from bench.demo import run_demo
from evals.results.row import NoResult
from services.profiles.encoders import encoder_of
from services.profiles.profile import BASE, NANO, PRO

NANO_SHAPE = NANO.config
PRO_SHAPE = PRO.config

LOAD_PER_S = 72.0
"""Events a second of the demo whose latency counts."""


def nano_encoder(data: Path | None, say: Callable[[str], None], *, seed: int) -> str:
    """Returns the folder of nano's encoder, distilled in the order of `seed`. Making it takes minutes."""
    return encoder_of(NANO, data=data, say=say, seed=seed)


class Loaded(NamedTuple):
    """How a service answered at a steady load."""

    p99_ms: float
    precisions: Mapping[str, int]
    """Answers by their precision."""


def base_under_load(seed: int) -> Loaded:
    """Plays the demo with base alone. Raises NoResult."""
    figures = run_demo("--profile", BASE.name, "--rate", f"{LOAD_PER_S:g}", "--seed", str(seed)).figures
    return Loaded(figures["latency_ms"]["p99"], figures["precisions"])


def change_under_load(seed: int) -> int:
    """Plays the demo with base, and changes to nano in its middle.

    Returns how many events were lost, answered twice, or answered by a mixture of two versions. Raises NoResult, also
    if the change was refused.
    """
    arguments = ("--profile", BASE.name, "--change-to", NANO.name, "--seed", str(seed))
    figures = run_demo(*arguments).figures
    change = figures["change"]
    if len(change["recomputed"]["encoders"]) != 2:
        raise NoResult(f"the profile did not change: {change['outcome']}")
    wrong = figures["lost"] + figures["duplicates"] + change["recomputed"]["mixed"] + change["recomputed"]["gone"]
    return int(wrong)
