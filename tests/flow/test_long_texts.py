"""Texts of 8,192 tokens go through the whole service: answered by HTTP and from Kafka, learnt, and trained on.

    long text --HTTP, Kafka--> replica --Answer, vector--> learner --slow round, version--> replica --> its label

The encoder is a member of the family with rotated positions and random weights, so what is shown is that no bound on
the way is too small: every text of a class begins alike, and only what stands behind 7,000 tokens tells the class.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from learner.learner import Learner
from model.bert import load_encoder
from model.config import StrataConfig
from model.member import Member, write_member
from model.source import encoder_folder
from serving.config import ServingConfig
from serving.http.app import make_app
from serving.http.listener import Listener
from serving.replica import Replica
from serving.replica_config import ReplicaConfig
from tests.brokers import take
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import SUBJECT_DIGEST, Setting, small_config
from tests.model.small_encoder import small_strata
from tests.stores import KEYS, SIGNING_KEY
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.receipts import Receipts
from wire.records import MAX_EVENT_BYTES, MAX_TEXT_TOKENS, STABLE, Answer, Arm, Event, Feedback, RolloutPlan
from wire.store import Store

pytestmark = pytest.mark.live

LONG = StrataConfig(
    vocab=30_522,
    d_model=64,
    n_layers=2,
    n_heads=2,
    d_ff=128,
    max_pos=MAX_TEXT_TOKENS,
    positions="rope",
    head_features=96,
    label_capacity=8,
)
LABELS = ("lease", "licence")
BEGINNING = "this agreement is made between the two parties named below " * 700
ENDINGS = {"lease": "house garden rent tenant " * 250, "licence": "software patent royalty code " * 250}
WAIT_S = 60.0


def make_text(number: int) -> str:
    """Returns a text of nearly as many tokens as can be read; the number is at its end, behind what tells its class."""
    return f"{BEGINNING}{ENDINGS[LABELS[number % 2]]} {number}"


class LongRig(PublishRig):
    """A learner with that encoder, which publishes into a store."""

    def make_learner(self, receipts: Receipts | None, folder: Path, **changed: Setting) -> Learner:
        strata, tokenizer = load_encoder(str(folder / "encoder"))
        config = small_config(**changed)
        return Learner(config, strata, tokenizer, receipts=receipts, subject_digest=SUBJECT_DIGEST, cache_dir=folder)


class LongTexts:
    """A learner, a replica that listens, and the topics between them."""

    def __init__(self, rig: LongRig, replica: Replica, store: Store, bus: Bus, url: str) -> None:
        self.rig = rig
        self._replica = replica
        self._store = store
        self.bus = bus
        self.url = url
        self._revision = 0

    def publish(self) -> int:
        """Publishes a version, makes it stable, and waits until the replica answers with it."""
        version = self.rig.publish()
        self._revision += 1
        arms = (Arm(name=STABLE, version=version, share=1.0),)
        self._store.plans.write(RolloutPlan(revision=self._revision, salt="salt", arms=arms))
        eventually(lambda: [arm.version for arm in self._replica.status().arms] == [version], within_s=WAIT_S)
        return version

    def ask(self, text: str, event_id: str) -> Any:
        response = httpx2.post(f"{self.url}/predict", json={"text": text, "id": event_id}, timeout=WAIT_S)
        return response.json()["answers"][0]

    def send(self, *events: Event) -> None:
        with closing(self.bus.publisher()) as publisher:
            for event in events:
                publisher.send(event)

    def received(self, record: Any, num: int) -> list[Any]:
        with closing(self.bus.follow([record], {})) as follower:
            return [each.record for each in take(follower.poll, num, within_s=WAIT_S)]

    def label(self, answers: list[Answer]) -> None:
        """Lets the learner read the answers, and the label of each."""
        records: list[Answer | Feedback] = []
        for answer in answers:
            number = int(answer.event_id.rpartition("-")[2])
            records += [answer, Feedback(event_id=answer.event_id, label=LABELS[number % 2], receipt=answer.receipt)]
        self.rig.learner.learn_many(records, {"feedback.v1/0": len(records)})


@pytest.fixture
def service(
    store: Store, bus: Bus, bus_config: BusConfig, store_config: StoreConfig, tmp_path: Path
) -> Iterator[LongTexts]:
    folder = tmp_path / "encoder"
    member = Member(config=LONG, max_tokens=MAX_TEXT_TOKENS)
    write_member(folder, member, small_strata(LONG), (encoder_folder("minilm-l6") / "tokenizer.json").read_bytes())
    serving = ServingConfig(report_interval_s=0.1, reconnect_s=0.1, request_timeout_s=WAIT_S)
    config = ReplicaConfig(encoder=str(folder), serving=serving, bus=bus_config, store=store_config, ring=KEYS)
    changed: dict[str, Setting] = {"trainable_layers": 1, "holdout_share": 0.0, "rehearsal_steps": 2}
    rig = LongRig(store, tmp_path, Receipts(SIGNING_KEY), **changed)
    replica = Replica(config, "replica")
    replica.start()
    listener = Listener(make_app(replica.api()), host="127.0.0.1", port=0, drain_timeout_s=1)
    yield LongTexts(rig, replica, store, bus, f"http://127.0.0.1:{listener.port}/v1")
    listener.close()
    replica.close()


def test_texts_of_8192_tokens_are_answered_and_learnt(service: LongTexts) -> None:
    texts = {f"event-{number}": make_text(number) for number in range(4)}
    tokenizer = service.rig.learner.fast_head.served.tokenizer
    num_tokens = [len(ids) for ids in tokenizer.encode_many(list(texts.values()))]
    assert 7_900 < min(num_tokens) <= max(num_tokens) < MAX_TEXT_TOKENS == tokenizer.max_tokens

    assert service.publish() == 1
    by_http = [service.ask(texts[f"event-{number}"], f"event-{number}") for number in range(2)]
    service.send(*(Event(id=name, text=texts[name]) for name in list(texts)[2:]))
    answers = service.received(Answer, 4)
    assert {answer.event_id: answer.text for answer in answers} == texts
    assert [answer["label"] for answer in by_http] == [None] * 2

    service.label(answers)
    known = service.rig.learner.fast_head.served.known
    assert len(known.of(list(texts.values()))) == 4, "the learner need not encode them again"
    assert service.publish() == 2
    assert [service.ask(make_text(number), f"later-{number}")["label"] for number in (98, 99)] == list(LABELS)

    service.rig.learner.begin("rehearsal")
    while service.rig.learner.has_work:
        service.rig.learner.tick()
    outcome = service.rig.learner.knowledge.lineage.rounds[-1].outcome
    assert outcome in ("adopted", "dropped"), "the round came to its end"

    refused = httpx2.post(f"{service.url}/predict", json={"text": "x" * MAX_EVENT_BYTES}, timeout=WAIT_S)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")
