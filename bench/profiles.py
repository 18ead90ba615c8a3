"""Gives row E11 of the ledger what belongs to the command line: the profiles, their encoders, a change under load.

profile --encoder_of--> name of its encoder, made at first use        the demo, base -> nano --> its figures
"""

from collections.abc import Callable
from pathlib import Path

from bench.demo_run import run_demo
from evals.results.row import NoResult
from services.profiles.encoders import encoder_of
from services.profiles.profile import BASE, NANO, PRO

NANO_SHAPE = NANO.config
PRO_SHAPE = PRO.config


def nano_encoder(data: Path | None, say: Callable[[str], None]) -> str:
    """Returns the folder of nano's encoder. It takes minutes where it has to be made first."""
    return encoder_of(NANO, data=data, say=say)


def change_under_load(seed: int) -> tuple[float, int]:
    """Plays the demo with base, and changes to nano in its middle.

    Returns the p99 of the answers in ms, and how many events were lost, answered twice, or answered by a mixture of two
    versions. Raises NoResult, also where the change was refused.
    """
    arguments = ("--profile", BASE.name, "--change-to", NANO.name, "--seed", str(seed))
    figures = run_demo(*arguments).figures
    change = figures["change"]
    if len(change["recomputed"]["encoders"]) != 2:
        raise NoResult(f"the profile did not change: {change['outcome']}")
    wrong = figures["lost"] + figures["duplicates"] + change["recomputed"]["mixed"] + change["recomputed"]["gone"]
    return figures["latency_ms"]["p99"], wrong
