"""The domain stage: what is detected without labels, which texts a stage reads, and what it offers."""

import dataclasses
import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from model.bert import load_encoder
from model.ragged import RaggedBatch
from services.members.domain import STATE, DomainStages, DomainWatch, Stage, StageOptions
from services.members.texts import FOLDER, trained_on
from services.settings import Settings
from tests.learner.adopt_rig import AdoptRig, published_rig
from tests.learner.small_learner import save_encoder
from tests.learner.streams import make_text
from tests.waiting import eventually
from wire.bus import Bus
from wire.keyring import parse, subject_digest
from wire.records import EncoderOffer, Erase, Event
from wire.store import Store
from wire.threads import BackgroundThread

SONGS = [f"play the {word} song {number}" for number in range(20) for word in ("loud", "old", "new", "slow", "red")]

CONTRACTS = [f"party {number} shall indemnify under section {number % 7} of annex" for number in range(60)]

RING = parse("a shared secret of some length")

OPTIONS = StageOptions(
    known_texts=40, texts_per_poll=100, new_texts=20, passes=0.5, first_layer=0, share=1.0, decides_within_s=60.0
)


def silent(_: str) -> None:
    """Shows nothing."""


def around(centre: int, seed: int) -> Callable[[Sequence[str]], Tensor]:
    """Returns an encoder whose vectors are scattered around the axis `centre` of eight."""
    rng = torch.Generator().manual_seed(seed)

    def encode(texts: Sequence[str]) -> Tensor:
        z_BD = 0.2 * torch.randn(len(texts), 8, generator=rng)
        z_BD[:, centre] += 1
        return functional.normalize(z_BD, dim=1)

    return encode


@given(st.integers(0, 1_000), st.integers(1, 64))
def test_only_texts_elsewhere_are_a_rise(seed: int, batch: int) -> None:
    encoders = iter([around(0, seed)] * (400 // batch) + [around(1, seed)] * (400 // batch + 1))
    watch = DomainWatch(lambda texts: next(encoders)(texts), num_known=40)
    rises = [watch.add([""] * batch) for _ in range(400 // batch)]
    assert rises == [None] * len(rises)
    assert any(watch.add([""] * batch) for _ in range(400 // batch))


def test_no_texts_are_no_rise() -> None:
    assert DomainWatch(around(0, 0), num_known=4).add([]) is None


@pytest.fixture
def rig(store: Store, tmp_path: Path) -> AdoptRig:
    return published_rig(store, tmp_path)


@pytest.fixture
def stages(bus: Bus, store: Store, rig: AdoptRig, tmp_path: Path) -> DomainStages:
    (tmp_path / "source").mkdir()
    settings = Settings(encoder=save_encoder(tmp_path / "source"), state_dir=tmp_path)
    return DomainStages(settings, bus, [store], RING, OPTIONS, say=silent)


def send(bus: Bus, texts: Sequence[str], *, key: str = "") -> None:
    events = [Event(id=f"{text} {key}", text=text, key=key or text, source="desk") for text in texts]
    bus.publisher().send_all(events, 30.0)


@pytest.mark.live
def test_a_stage_reads_the_texts_below_its_offsets_without_those_of_erased_subjects(
    bus: Bus, store: Store, stages: DomainStages, tmp_path: Path
) -> None:
    send(bus, SONGS)
    send(bus, ["my name is Ada", "call me at 7"], key="ada")
    store.commands.append(Erase(digest=subject_digest(RING.subject, "ada")))
    stage = stages.begin(bus.end_offsets(Event))
    send(bus, CONTRACTS)
    made = stages.pretrain(stage)
    assert made.texts["read"] == len(SONGS) + 2 and made.texts["forgotten"] == 2
    assert made.texts["used"] == len(SONGS)
    assert Path(made.folder).parent == tmp_path / FOLDER
    # Nothing that came later changes the stage: after a kill it is the same one.
    again = stages.pretrain(msgspec.json.decode((tmp_path / FOLDER / STATE).read_bytes(), type=Stage))
    assert not again.is_new and again.folder == made.folder


@pytest.mark.live
def test_a_stage_begins_with_the_encoder_that_rounds_have_trained(stages: DomainStages, rig: AdoptRig) -> None:
    rig.train()
    assert rig.publish() == 2
    strata, tokenizer = load_encoder(stages.begin({}).encoder)
    texts = [make_text(number) for number in range(8)]
    found = strata(RaggedBatch.of(tokenizer.encode_many(texts)))
    served = rig.learner.fast_head.served.z_many(texts)
    assert functional.cosine_similarity(found, served).min() > 0.99


@pytest.mark.live
def test_a_stage_stops_after_its_step_and_goes_on(
    bus: Bus, stages: DomainStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(bus, SONGS)
    monkeypatch.setattr(stages, "_options", dataclasses.replace(OPTIONS, passes=20))
    stage = stages.begin(bus.end_offsets(Event))
    stop = threading.Event()
    monkeypatch.setattr(stages, "_say", lambda line: stop.set() if line.startswith("step 1 ") else None)
    stages.run(stop)
    assert stop.is_set() and (tmp_path / FOLDER / STATE).exists() and Path(stage.encoder).is_dir()
    assert [path.suffix for path in (tmp_path / FOLDER).glob("text-*")] == [".checkpoint"]
    assert stages.pretrain(stage).is_new


@pytest.mark.live
def test_only_the_newest_stage_keeps_its_weights(bus: Bus, stages: DomainStages, tmp_path: Path) -> None:
    """An encoder that somebody has made from one of a stage stays, too, and `forget` still finds all of them."""
    send(bus, SONGS, key="ann")
    first = stages.pretrain(stages.begin(bus.end_offsets(Event)))
    own = tmp_path / FOLDER / "own"
    shutil.copytree(first.folder, own)
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | {"history": [*config["history"], {"step": "pretrain"}]}))
    send(bus, CONTRACTS, key="ann")
    second = stages.pretrain(stages.begin(bus.end_offsets(Event)))
    stages._retire_all_but(Path(second.folder))
    left = {folder.name for folder in (tmp_path / FOLDER).glob("*/") if (folder / "model.safetensors").exists()}
    assert {Path(second.folder).name, "own"} <= left and Path(first.folder).name not in left
    seen = trained_on(subject_digest(RING.subject, "ann"), tmp_path)
    assert {Path(name).name for name in seen} == {f"retired-{Path(first.folder).name}", "own", Path(second.folder).name}


@pytest.mark.live
def test_texts_of_another_domain_begin_a_stage_which_the_learner_adopts(
    bus: Bus, store: Store, stages: DomainStages, rig: AdoptRig, tmp_path: Path
) -> None:
    thread = BackgroundThread(lambda: stages.run(thread.closing), name="domain")
    thread.start()
    path = tmp_path / FOLDER / STATE
    deadline_s = time.monotonic() + 120
    turn = 0
    # The watch begins at the end of the topic, whenever the thread gets there.
    while not path.exists() and time.monotonic() < deadline_s:
        thread.check(AssertionError)
        send(bus, [f"{text} {turn}" for text in (SONGS if turn < 4 else CONTRACTS)])
        turn += 1
        time.sleep(1.5)
    while not list(store.commands.read()) and time.monotonic() < deadline_s:
        thread.check(AssertionError)
        time.sleep(0.1)
    (command,) = store.commands.read()
    assert (command.verb, command.source) == (EncoderOffer.VERB, "domain")
    rig.decide(command)
    rig.publish()
    rig.decide(command)
    outcome = store.commands.outcome(command)
    assert outcome is not None and (outcome.state, outcome.version) == ("published", 2)
    while path.exists() and time.monotonic() < deadline_s:
        time.sleep(0.1)
    # The encoder from before the stage is removed, and the adopted one is kept.
    assert not path.exists()
    name = command.read(EncoderOffer).name
    eventually(lambda: [folder.name for folder in path.parent.iterdir() if folder.is_dir()] == [name])
    thread.close()
