"""Answers, failures and slow forwards of the versions that answer, by a clock that stands still in between."""

import pytest
import torch
from torch import Tensor

from model.quantized import QuantizedEncoder
from model.ragged import RaggedBatch, RaggedLayout
from serving.encodings import MIN_FORWARDS, NUM_FORWARDS, Health
from tests.serving.versions import TINY
from wire.records import VersionHealth

SHORT = RaggedBatch.of([[1] * 8])
LONG = RaggedBatch.of([[1] * 100])


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class TimedForward:
    """A forward that takes as long as it is told."""

    name = "timed"
    arithmetic = ""

    def __init__(self, clock: Clock, took_s: float) -> None:
        self._clock = clock
        self.took_s = took_s

    def encode(self, batch: RaggedBatch) -> Tensor:
        self._clock.now_s += self.took_s
        return torch.zeros(batch.layout.num_sequences, TINY.d_model)

    def tokens(self, batch: RaggedBatch, layers: int) -> Tensor:
        self._clock.now_s += self.took_s * layers / TINY.n_layers
        return torch.zeros(len(batch.ids_T), TINY.d_model)

    def tokens_from(self, x_TD: Tensor, layout: RaggedLayout, layers: int) -> Tensor:
        raise NotImplementedError

    def encode_from(self, layer: int, x_TD: Tensor, layout: RaggedLayout) -> Tensor:
        self._clock.now_s += self.took_s * (1 - layer / TINY.n_layers)
        return torch.zeros(layout.num_sequences, TINY.d_model)


class Rig:
    """Two versions with encoders of their own: 1 is stable and takes 1 s, 2 takes `took_s`."""

    def __init__(self, took_s: float) -> None:
        clock = Clock()
        self.health = Health(clock=clock)
        self.stable = QuantizedEncoder(TINY, {"int8": TimedForward(clock, 1.0)})
        self.other = QuantizedEncoder(TINY, {"int8": TimedForward(clock, took_s)})
        self.health.follow({1: self.stable, 2: self.other}, stable=1)

    def encode(self, encoder: QuantizedEncoder, batch: RaggedBatch = SHORT, *, times: int = 1) -> None:
        for _ in range(times):
            self.health.encode(encoder, batch, "int8")

    def of(self, number: int) -> VersionHealth:
        return {each.version: each for each in self.health.report()}[number]


@pytest.mark.parametrize(("took_s", "slow"), [(0.5, 0), (1.2, 0), (2.0, 3)])
def test_a_forward_is_slow_beside_the_stable_encoders(took_s: float, slow: int) -> None:
    rig = Rig(took_s)
    rig.encode(rig.stable, times=NUM_FORWARDS)
    rig.encode(rig.other, times=3)
    assert rig.of(2) == VersionHealth(version=2, timed=3, slow=slow)
    assert rig.of(1) == VersionHealth(version=1)


@pytest.mark.parametrize(("took_s", "slow"), [(1.2, 0), (2.0, 1)])
def test_the_time_of_shared_blocks_counts_for_each_encoder(took_s: float, slow: int) -> None:
    """Each text has the part of its tokens: half of the lower block's time here, for half of the texts."""
    rig = Rig(took_s)
    rig.encode(rig.stable, times=NUM_FORWARDS)
    both = RaggedBatch.of([[1] * 8, [2] * 8])
    prefixes = rig.health.encode_prefixes(rig.other, both, "int8", 1)
    rig.health.encode(rig.other, SHORT, "int8", prefixes=prefixes[:1])
    assert [prefix.took_s for prefix in prefixes] == [pytest.approx(took_s / 4)] * 2
    assert rig.of(2) == VersionHealth(version=2, timed=1, slow=slow)


def test_where_nothing_is_comparable_nothing_is_timed() -> None:
    rig = Rig(5.0)
    rig.encode(rig.stable, times=MIN_FORWARDS - 1)
    rig.encode(rig.other)
    rig.encode(rig.stable)
    rig.encode(rig.other, LONG)
    assert rig.of(2).timed == 0
    rig.encode(rig.other)
    assert (rig.of(2).timed, rig.of(2).slow) == (1, 1)


def test_versions_that_share_an_encoder_are_as_slow() -> None:
    rig = Rig(2.0)
    rig.health.follow({1: rig.stable, 2: rig.other, 3: rig.other}, stable=1)
    rig.encode(rig.stable, times=MIN_FORWARDS)
    rig.encode(rig.other)
    assert [each.slow for each in rig.health.report()] == [0, 1, 1]


def test_what_is_known_goes_with_the_version_and_with_the_stable_encoder() -> None:
    rig = Rig(2.0)
    rig.health.count_answers(1, 5)
    rig.health.count_failure(2)
    rig.encode(rig.stable, times=MIN_FORWARDS)
    rig.health.follow({2: rig.other, 3: rig.stable}, stable=2)
    rig.health.count_answers(1, 5)
    rig.encode(rig.stable)
    assert rig.health.report() == (VersionHealth(version=2, answers=1, errors=1), VersionHealth(version=3))
    rig.encode(rig.other, times=MIN_FORWARDS)
    rig.encode(rig.stable)
    assert (rig.of(3).timed, rig.of(3).slow) == (1, 0), "half as long"
