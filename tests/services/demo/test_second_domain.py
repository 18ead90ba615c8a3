"""The second domain: which texts come without labels, and what the published encoder makes of the labels."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evals.load.player import Timeouts
from evals.load.session import LoadProfile, Loops, Participants, SystemUnderTest, play
from evals.streams.stream import Stage, Stream, StreamItem
from learner.config import LearnerConfig
from services.demo import second_domain
from services.demo.second_domain import SHOTS, SecondDomain, frozen_accuracy, two_domains
from services.members.domain import STATE
from services.members.texts import FOLDER
from services.settings import Settings
from tests.evals.load.answerer import Answerer
from tests.evals.streams.test_text_sets import write_clauses
from tests.learner.small_learner import save_encoder
from tests.services.demo.moved import MOVED
from wire.bus import Bus, read_all_records
from wire.config import BusConfig
from wire.records import CommandOutcome, EncoderOffer, Event, Feedback
from wire.store import Store

KINDS = ("term", "renewal", "audit")


def items(*labels: str, num: int) -> tuple[StreamItem, ...]:
    return tuple(StreamItem(f"{label} says {number}", label) for label in labels for number in range(num))


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    write_clauses(tmp_path, [f"{kind} {number}" for kind in KINDS for number in range(20)], num_contracts=10)
    stages = tuple(Stage(name, items(name, num=6), items(name, num=2)) for name in ("ask", "book"))
    return two_domains(Stream("desk", stages), tmp_path, 0)


def test_the_second_stage_has_few_labels_of_each_class(stream: Stream) -> None:
    first, second = stream.stages
    assert (first.name, second.name) == ("desk", "cuad") and not stream.arrivals
    assert sorted(item.label for item in first.train) == ["ask"] * 6 + ["book"] * 6 and len(first.test) == 4
    assert [item.label for item in sorted(second.train, key=lambda each: each.label)] == [
        kind for kind in sorted(KINDS) for _ in range(SHOTS)
    ]
    assert second.test and not {item.text for item in second.train} & {item.text for item in second.test}


def test_the_frozen_encoder_learns_all_labels(stream: Stream, tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    encoder = save_encoder(tmp_path / "encoder")
    share = frozen_accuracy(stream, LearnerConfig(num_features=64), encoder)
    assert 1 / len(KINDS) < share <= 1


def test_the_result_says_gain_and_loss() -> None:
    assert (MOVED.fields()["gain"], MOVED.fields()["forgotten"]) == (5.5, 0.1)
    assert "published after 300 s" in MOVED.lines and "(+5.50)" in MOVED.lines and "p99 - ms before" in MOVED.lines
    assert "the stable version does not have its encoder" in MOVED.lines


@pytest.mark.live
def test_the_texts_come_between_the_stages_without_labels(
    stream: Stream, tmp_path: Path, bus: Bus, bus_config: BusConfig, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"UNLABELLED_RATE": 200.0, "FILLER_RATE": 100.0, "QUIET_S": 0.2, "JUDGED": 4}.items():
        monkeypatch.setattr(second_domain, name, value)
    (tmp_path / "encoder").mkdir()
    encoder = save_encoder(tmp_path / "encoder")
    settings = Settings(encoder=encoder, state_dir=tmp_path, data=tmp_path, learner=LearnerConfig(num_features=64))
    offered = store.commands.append(EncoderOffer(id="a", name="text-1", time_ms=1), source="domain")
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if "without labels" in line:
            (tmp_path / FOLDER).mkdir()
            (tmp_path / FOLDER / STATE).touch()
            store.commands.note([CommandOutcome(seq=offered.seq, time_ms=1, state="published", version=2)])

    domain = SecondDomain(stream, settings, store, say=say)
    answerer = Answerer(bus, store, drops=(), repeats=(), saving=False, judges=True)
    profile = LoadProfile(
        rate=50, label_delay_s=(0.05, 0.2), timeouts=Timeouts(answer_s=3, judge_s=0.3, learn_s=20, quiet_s=0.5)
    )

    @contextmanager
    def watching(participants: Participants) -> Iterator[None]:
        with domain.during(participants):
            yield

    loops = Loops(answerer)
    with loops:
        system = SystemUnderTest(bus=bus_config, store=store, check=loops.check, num_restarts=lambda: 0)
        outcome = play(system, stream, profile, say=say, watching=watching)
    moved = domain.result(outcome)
    assert (moved.decision, moved.accuracy, moved.first_domain_before) == ("published", 100.0, 100.0)
    assert moved.latency_p99_before is not None and moved.latency_p99 is not None and not moved.is_stable
    sent = Counter(event.text for event in read_all_records(bus, [Event]))
    labelled = {label.event_id for label in read_all_records(bus, [Feedback])}
    clauses = {text for text in sent if text.split()[0] in KINDS}
    # All clauses of the training part were sent, but only the few of the second stage have labels.
    assert len(clauses) == len(KINDS) * 20
    by_id = {event.id: event.text for event in read_all_records(bus, [Event])}
    assert Counter(by_id[each].split()[0] for each in labelled if by_id[each] in clauses) == dict.fromkeys(KINDS, SHOTS)
