"""Events and versions that kill the process of a real replica: two deaths, and everything else goes on."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import msgspec
import pytest

from learner.learner import Learner
from model.encoders import open_encoder
from model.qtensor import QTensor, from_blob
from services.versions import ROOT
from tests.brokers import take
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import SUBJECT_DIGEST, Setting, small_config
from tests.learner.streams import answer, feedback
from tests.model.module_encoders import import_path
from tests.serving.deadly_encoder import FUSE, Deadly
from tests.serving.versions import build_plan, make_entry
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.receipts import Receipts
from wire.records import Answer, DeadLetter, Event, Feedback, WeightManifest
from wire.store import Store

pytestmark = [pytest.mark.live, pytest.mark.slow]

WORDS = ["".join(letters) for letters in product("abc", "xyz", "klm")]
ENCODER = import_path(Deadly).replace("tests.model.module_encoders", "tests.serving.deadly_encoder")


class DeadlyRig(PublishRig):
    """A learner of words under the encoder that kills; none of its own words does."""

    def make_learner(self, receipts: Receipts | None, folder: Path, **changed: Setting) -> Learner:
        whole, inputs = open_encoder(ENCODER)
        return Learner(
            small_config(**changed), whole, inputs, receipts=receipts, subject_digest=SUBJECT_DIGEST, cache_dir=folder
        )

    def learn_words(self) -> None:
        records: list[Answer | Feedback] = []
        for number, word in enumerate(WORDS):
            records.append(msgspec.structs.replace(answer(number), text=word))
            records.append(feedback(number, label=word[0]))
        self.learner.learn_many(records, {"feedback.v1/0": len(WORDS)})


@dataclass
class Restarted:
    """A replica that is started again whenever it is killed, as Ray does it. `deaths` has the exit codes."""

    argv: list[str]
    deaths: list[int] = field(default_factory=list)
    _closing: threading.Event = field(default_factory=threading.Event)
    _process: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._closing.is_set():
            number += 1
            argv = [sys.executable, "-m", "tests.serving.replica_process", f"r{number}", *self.argv]
            self._process = subprocess.Popen(argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
            code = self._process.wait()
            if not self._closing.is_set():
                self.deaths.append(code)

    def close(self) -> None:
        self._closing.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join()


@pytest.fixture
def rig(store: Store, tmp_path: Path) -> DeadlyRig:
    rig = DeadlyRig(store, tmp_path / "learner")
    rig.learn_words()
    rig.publish()
    store.plans.write(build_plan(1))
    return rig


@pytest.fixture
def replica(
    rig: DeadlyRig, bus: Bus, bus_config: BusConfig, store_config: StoreConfig, tmp_path: Path
) -> Iterator[Restarted]:
    servers = [bus_config.bootstrap_servers, bus_config.prefix, store_config.url, store_config.prefix]
    running = Restarted([*servers, ENCODER, str(tmp_path / "spool")])
    yield running
    running.close()


def answered(bus: Bus, num: int) -> set[str]:
    with closing(bus.follow([Answer], {})) as follower:
        return {each.record.event_id for each in take(follower.poll, num, within_s=120.0)}


@pytest.mark.parametrize("deadly", ["deadly", "deadlytoread"])
def test_an_event_that_kills_the_process_twice_is_a_dead_letter_and_its_neighbours_are_answered(
    replica: Restarted, bus: Bus, deadly: str
) -> None:
    """N17: it was delivered to the next process, for ever."""
    texts = [*WORDS[:10], deadly, *WORDS[10:20]]
    with closing(bus.publisher()) as publisher:
        for text in texts:
            publisher.send(Event(id=text, text=text, key="one partition"))
    with closing(bus.follow([DeadLetter], {})) as follower:
        (letter,) = take(follower.poll, 1, within_s=240.0)
    assert letter.record.reason == "kills_the_process"
    assert f'"{deadly}"' in letter.record.payload.decode()
    assert answered(bus, 20) == set(WORDS[:20])
    assert replica.deaths == [-9, -9]


def exploding(store: Store, manifest: WeightManifest) -> WeightManifest:
    """Stores a version whose encoder ends the process in its first forward, and returns its manifest."""
    (bias,) = [entry for entry in manifest.tensors if entry.name.endswith("out.bias")]
    tensor = from_blob(bias, store.blobs.get(bias.digest, bias.num_bytes))
    blob = fused(tensor).to_blob()
    store.blobs.put(blob)
    entry = msgspec.structs.replace(make_entry(tensor, blob), name=bias.name)
    tensors = tuple(entry if each.name == bias.name else each for each in manifest.tensors)
    changed = msgspec.structs.replace(manifest, version=2, parent=1, epoch=0, tensors=tensors)
    store.versions.add(changed, detail="explodes")
    return changed


def fused(tensor: QTensor) -> QTensor:
    """Returns the bias with its first value at FUSE."""
    values = tensor.parts["value"].clone()
    values[0] = 2 * FUSE
    return replace(tensor, parts={"value": values})


def test_a_version_that_kills_the_process_twice_is_refused_and_the_stable_one_answers(
    replica: Restarted, rig: DeadlyRig, bus: Bus, store: Store
) -> None:
    """N16: every process that started loaded it again, and died."""
    eventually(lambda: any(report.versions == (1,) for report in store.reports.replicas()), within_s=60.0)
    exploding(store, store.versions.manifest(1))
    store.plans.write(build_plan(1, 2, revision=2))
    eventually(
        lambda: any(report.refused.get("killed_while_loading") for report in store.reports.replicas()), within_s=120.0
    )
    assert replica.deaths == [-9, -9]
    with closing(bus.publisher()) as publisher:
        for word in WORDS:
            publisher.send(Event(id=word, text=word, key=word))
    assert answered(bus, len(WORDS)) == set(WORDS)
    assert replica.deaths == [-9, -9]
