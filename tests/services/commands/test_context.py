"""The options of every command that reads settings."""

import inspect
import json
from dataclasses import dataclass, field
from typing import Annotated

import pytest
import typer

from services.commands.context import CliContext, reads_settings
from tests.services.command_line import lifelong


def test_an_assignment_may_have_spaces_around_its_name() -> None:
    done = lifelong("config", "show", "--json", "--set", " seed = 3")
    assert (done.returncode, json.loads(done.stdout)["seed"]) == (0, 3), done.stderr


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("err", "'err' is not accepted (it is none of naive, er,"),
        ("er.ace", "'er.ace' is not accepted (it is none of naive, er,"),
        ("avalanche.training.plugins.Nothing", "avalanche.training.plugins.Nothing does not import"),
    ],
)
def test_a_strategy_that_cannot_learn_ends_with_78(strategy: str, message: str) -> None:
    """The other messages of Avalanche's strategies are tested in the room that makes them, which imports it once."""
    done = lifelong("config", "check", "--set", f"learner.slow_strategy={strategy}")
    assert (done.returncode, "Traceback" in done.stderr) == (78, False), done.stderr
    assert done.stderr.startswith("lifelong: 1 bad setting:\n")
    assert message in done.stderr


def test_a_strategy_of_avalanche_is_accepted() -> None:
    done = lifelong("config", "check", "--set", "learner.slow_strategy=avalanche-ewc(ewc_lambda=0.4)")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_flag_of_the_command_wins_over_an_assignment_unless_it_is_missing() -> None:
    context = CliContext(None, {"serving.replicas": "2", "seed": "3"})
    settings = context.load(serving__replicas=4, seed=None).settings
    assert (settings.serving.replicas, settings.seed) == (4, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The options of a command, and a field that is none."""

    names: Annotated[list[str], typer.Option("--name")] = field(default_factory=list)
    number: Annotated[int, typer.Option("--number")] = 7
    hidden: int = 3


def test_a_record_stands_for_the_options_that_its_fields_are() -> None:
    seen: list[tuple[Options, dict[str, str]]] = []

    @reads_settings
    def command(context: CliContext, options: Options, last: bool = False) -> None:
        seen.append((options, context.assignments))

    own = ["names", "number", "last"]
    assert list(inspect.signature(command).parameters) == [*own, "config", "assignments", "task"]
    command(names=["a"], number=2, last=True, config=None, assignments=["seed=3"], task=None)
    command(config=None, assignments=None, task="urgency", names=["b"], number=1)
    assert seen == [
        (Options(names=["a"], number=2), {"seed": "3"}),
        (Options(names=["b"], number=1), {"task": "urgency"}),
    ]
