"""The domain stage: what is detected without labels, which texts a stage reads, and what it offers."""

import dataclasses
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

from lifelong.compress.pretrain import MixOptions
from services.members.domain import STATE, DomainStages, DomainWatch, StageOptions, StageState
from services.members.pretrain import PretrainRequest, pretrain
from services.members.texts import FOLDER, Limits, SourcedText, select
from services.settings import Settings
from tests.lifelong.compress.members import DENSE
from wire.bus import Bus
from wire.keyring import parse, subject_digest
from wire.records import EncoderOffer, Erase, Event
from wire.store import Store
from wire.threads import BackgroundThread

SONGS = [f"play the {word} song {number}" for number in range(20) for word in ("loud", "old", "new", "slow", "red")]

CONTRACTS = [f"party {number} shall indemnify under section {number % 7} of annex" for number in range(60)]

SHAPE = dataclasses.replace(DENSE, vocab=300, embed_dim=16, n_layers=2)

RING = parse("a shared secret of some length")

OPTIONS = StageOptions(
    known_texts=40, texts_per_poll=100, new_texts=20, passes=0.5, first_layer=0, share=1.0, decides_within_s=0.5
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


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    selected = select((SourcedText(text, "songs") for text in SONGS), Limits())
    request = PretrainRequest(shape=SHAPE)
    options = MixOptions(tokens=2_000, batch_tokens=100, max_tokens=20)
    state_dir = tmp_path_factory.mktemp("encoders")
    return pretrain(selected, request, options, data=None, state_dir=state_dir, say=silent).folder


@pytest.fixture
def stages(bus: Bus, store: Store, encoder: str, tmp_path: Path) -> DomainStages:
    settings = Settings(encoder=encoder, state_dir=tmp_path)
    return DomainStages(settings, bus, [store], RING, OPTIONS, say=silent)


def send(bus: Bus, texts: Sequence[str], *, key: str = "") -> None:
    events = [Event(id=f"{text} {key}", text=text, key=key or text, source="desk") for text in texts]
    bus.publisher().send_all(events, 30.0)


@pytest.mark.live
def test_a_stage_reads_the_texts_below_its_offsets_without_those_of_erased_subjects(
    bus: Bus, store: Store, stages: DomainStages, encoder: str, tmp_path: Path
) -> None:
    send(bus, SONGS)
    send(bus, ["my name is Ada", "call me at 7"], key="ada")
    store.commands.append(Erase(digest=subject_digest(RING.subject, "ada")))
    until = bus.end_offsets(Event)
    send(bus, CONTRACTS)
    made = stages.pretrain(StageState(encoder=encoder, until=until))
    assert made.texts["read"] == len(SONGS) + 2 and made.texts["forgotten"] == 2
    assert made.texts["used"] == len(SONGS)
    assert Path(made.folder).parent == tmp_path / FOLDER
    # Nothing that came later changes the stage: after a kill it is the same one.
    again = stages.pretrain(StageState(encoder=encoder, until=until))
    assert not again.is_new and again.folder == made.folder


@pytest.mark.live
def test_texts_of_another_domain_begin_a_stage_that_is_offered(
    bus: Bus, store: Store, stages: DomainStages, encoder: str, tmp_path: Path
) -> None:
    path = tmp_path / FOLDER / STATE
    thread = BackgroundThread(lambda: stages.run(thread.closing), name="domain")
    thread.start()
    # The watch begins at the end of the topic, whenever the thread gets there.
    deadline_s = time.monotonic() + 60
    for texts in (SONGS, CONTRACTS):
        for turn in range(3 if texts is SONGS else 100):
            send(bus, [f"{text} {turn}" for text in texts])
            time.sleep(1.5)
            if path.exists() or time.monotonic() > deadline_s:
                break
    while not list(store.commands.read()) and time.monotonic() < deadline_s:
        thread.check(AssertionError)
        time.sleep(0.1)
    (command,) = store.commands.read()
    offered = command.read(EncoderOffer)
    assert (command.verb, command.source, offered.name[:5]) == (EncoderOffer.VERB, "domain", "text-")
    # Nobody decides in this test, so the next stage begins with the same encoder as this one.
    while msgspec.json.decode(path.read_bytes(), type=StageState).until and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert msgspec.json.decode(path.read_bytes(), type=StageState) == StageState(encoder=encoder)
    thread.close()
