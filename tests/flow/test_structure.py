"""An encoder of another structure is handed to a service that answers: canaried, adopted, nothing lost, nothing mixed.

events at a rate --broker--> replicas on Ray --answers--> every one computed again by the version that it names
                    offer --Redis--> learner --> version --> controller --> replicas

It runs the programs of `lifelong up` with whatever broker and Redis the machine has.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from evals.load.mixed import Recomputed, recompute
from evals.load.readback import TopicContents, read_back
from evals.load.score import Audit, audit
from evals.load.session import LoadProfile, session_participants
from evals.streams.data import load as load_stream
from evals.streams.stream import Arrival
from lifelong.compress.heads import prune
from model.bert import load_encoder
from model.config import StrataConfig
from model.member import Member, write_member
from model.source import encoder_folder
from model.tokenizer import TextTokenizer
from services.demo.command import system_under_test
from services.demo.fresh import fresh
from services.local.stack import Stack
from services.members.adopt import AdoptOptions, offer
from services.programs import open_store
from services.settings import load, replaced
from wire.bus import Bus, read_all_records
from wire.records import Answer, Command, CommandOutcome, RolloutPlan, WeightManifest
from wire.store import Store

pytestmark = [pytest.mark.live, pytest.mark.slow]

RATE = 20.0
EVENTS = 300
"""The events before the offer, and again those after it."""

LABELS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What the run has shown."""

    decided: CommandOutcome
    manifest: WeightManifest
    plan: RolloutPlan
    audit: Audit
    recomputed: Recomputed


def is_decided(store: Store, command: Command) -> bool:
    outcome = store.commands.outcome(command)
    return outcome is not None and outcome.is_final


def write_pruned(folder: Path) -> None:
    """Writes MiniLM without the last two heads of each layer."""
    strata, tokenizer = load_encoder("minilm-l6")
    kept = {layer: tuple(range(10)) for layer in range(strata.config.n_layers)}
    smaller = prune(strata.requires_grad_(False), kept)
    member = Member(config=smaller.config, max_tokens=tokenizer.max_tokens)
    write_member(folder, member, smaller, (encoder_folder("minilm-l6") / "tokenizer.json").read_bytes())


def arrivals() -> list[Arrival]:
    """Texts of a few classes, over and over."""
    (stage, *_) = load_stream("support", None, num_events=None, seed=0).stages
    labels = sorted({item.label for item in stage.train})[:LABELS]
    return [Arrival(item, 0) for item in stage.train if item.label in labels]


def cycled(items: Sequence[Arrival], first: int) -> list[Arrival]:
    return [items[number % len(items)] for number in range(first, first + EVENTS)]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("structure")
    write_pruned(folder / "pruned")
    changes = {
        "state_dir": folder / "state",
        "rollout.keep_versions": 10_000,  # each answer is computed again by its version
        "rollout.keep_bytes": 4 << 30,
        "learner.min_holdout": 5,
        "learner.holdout_share": 0.3,
        "learner.slow_every_labels": 1_000_000,
        "learner.rehearse_after_s": 0.0,
    }
    settings = replaced(load(file=None, environ=os.environ).settings, changes)
    with (
        fresh(settings) as own,
        Stack(own, say=print) as stack,
        closing(open_store(stack.settings)) as store,
        closing(Bus(stack.settings.bus, "flow")) as bus,
    ):
        profile = LoadProfile(rate=RATE, label_delay_s=(0.2, 0.5))
        tokenizer = TextTokenizer.from_encoder(own.encoder, max_tokens=own.serving.max_tokens)
        with session_participants(system_under_test(stack, store), profile, say=print) as participants:
            items = arrivals()
            player = participants.player
            player.play("before", cycled(items, 0), RATE)
            pruned, options = str(folder / "pruned"), AdoptOptions(max_loss=0.2)
            made = offer(store, pruned, options, learner=own.learner, tokenizer=tokenizer, say=print)
            sent = EVENTS
            while not is_decided(store, made) and sent < 20 * EVENTS:
                player.play("meanwhile", cycled(items, sent), RATE)
                sent += EVENTS
            player.play("after", cycled(items, sent), RATE)
            player.await_answers(at_most=0)
            decided = store.commands.outcome(made)
            assert decided is not None and decided.is_final, "the learner has not decided"
            ledger = participants.ledger
            back = read_back(bus, TopicContents(ledger.number_of), [Answer])
        answers = [record for record in read_all_records(bus, [Answer]) if isinstance(record, Answer)]
        plan = store.plans.read()
        assert plan is not None
        yield Outcome(
            decided=decided,
            manifest=store.versions.manifest(decided.version),
            plan=plan,
            audit=audit(ledger.progress().counts.sent, back.answers),
            recomputed=recompute(answers, store, tokenizer),
        )


def test_the_encoder_is_adopted_by_the_learner(outcome: Outcome) -> None:
    assert outcome.decided.state == "published", outcome.decided
    assert {layer.heads for layer in StrataConfig.from_json(outcome.manifest.config).layers} == {10}


def test_versions_with_it_answer(outcome: Outcome) -> None:
    assert max(outcome.plan.versions) >= outcome.decided.version
    assert len(outcome.recomputed.encoders) == 2 and min(outcome.recomputed.encoders) > 10


def test_nothing_is_lost_and_no_answer_is_of_two_versions(outcome: Outcome) -> None:
    assert (outcome.audit.lost, outcome.audit.duplicates) == (0, 0)
    assert (outcome.recomputed.mixed, outcome.recomputed.gone) == (0, 0)
    assert outcome.recomputed.answers > 2 * EVENTS
