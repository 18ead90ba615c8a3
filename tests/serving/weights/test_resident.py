"""The versions in memory: each is loaded once, rests behind a new encoder, and goes when no plan needs it."""

import pytest

from serving.config import PrecisionConfig
from serving.weights.loader import Loader
from serving.weights.refusals import Refusals
from serving.weights.resident import LOAD_REST_S, ResidentVersions
from tests.serving.versions import TinyPublisher, plan_of, tokenizer
from wire.store import Store


class Residents:
    """Resident versions of a store, with the rests that they took and a clock that is moved."""

    def __init__(self, store: Store) -> None:
        self.now_s = 0.0
        self.rests = list[float]()
        self.refusals = Refusals(retry_s=60.0, clock=lambda: self.now_s)
        loader = Loader(store, tokenizer(), probe_tolerance=0.05)
        self.versions = ResidentVersions(
            loader, self.refusals, precision=PrecisionConfig(), rest=lambda rest_s: self.rests.append(rest_s)
        )

    def load(self, *numbers: int) -> list[int]:
        for number in numbers:
            self.versions.load(number)
        return sorted(self.versions.by_number)


@pytest.fixture
def residents(store: Store) -> Residents:
    return Residents(store)


def test_a_version_is_loaded_once_and_only_a_new_encoder_rests(learner: TinyPublisher, residents: Residents) -> None:
    for number, seed in ((1, 0), (2, 0), (3, 1)):
        learner.publish(number, encoder_seed=seed)
    assert residents.load(1, 2, 2) == [1, 2]
    assert residents.rests == [LOAD_REST_S]
    loaded = residents.versions.by_number
    assert loaded[1].model.encoder is loaded[2].model.encoder
    assert loaded[1].latency is loaded[2].latency, "versions of one shape are measured once"
    assert residents.load(3) == [1, 2, 3]
    assert residents.rests == [LOAD_REST_S] * 2


def test_a_refused_version_is_not_tried_again_for_a_while(learner: TinyPublisher, residents: Residents) -> None:
    learner.publish(1)
    assert residents.load(1, 2) == [1]
    assert residents.refusals.counts == {"not_found": 1}
    assert not residents.versions.lacks(plan_of(1, 2)), "it must not be tried now"
    learner.publish(2)
    assert residents.load(2) == [1]
    residents.now_s = 61.0
    assert residents.versions.lacks(plan_of(1, 2))
    assert residents.load(2) == [1, 2]
    assert not residents.refusals.holds(2)


def test_the_first_that_can_be_loaded_stands_in(learner: TinyPublisher, residents: Residents) -> None:
    learner.publish(1)
    learner.publish(2)
    residents.versions.load_first([9, 2, 1])
    assert list(residents.versions.by_number) == [2]


def test_what_no_plan_needs_goes_and_its_own_tensors_with_it(learner: TinyPublisher, residents: Residents) -> None:
    for number in (1, 2):
        learner.publish(number)
    residents.load(1, 2)
    both = residents.versions.num_bytes
    residents.versions.keep({2}, tried={2})
    left = residents.versions.num_bytes
    assert left.keys() == {"2", "resident"}
    assert left["2"] <= left["resident"] < both["resident"] < both["1"] + both["2"], "an encoder is counted once"
    residents.versions.clear()
    assert residents.versions.num_bytes == {"resident": left["resident"]}
    assert residents.load(2) == [2]
