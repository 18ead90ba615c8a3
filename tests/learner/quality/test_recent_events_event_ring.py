"""The ring is kept under other scales of numbers, and emptied under another encoder."""

import torch

from learner.encoder.served import ServedEncoder
from learner.fast.fast_head import Rows
from learner.quality.recent_events import MAX_BYTES, EventRing
from lifelong.plugins.inputs.feature_tensors import Scale
from tests.learner.small_learner import CONFIG, small_served, small_strata, with_scales
from wire.inputs import encode_content

SERVED = small_served()
CONTENTS = [
    encode_content("", {"amount": 3.0}),
    encode_content("a refund", {"amount": -1.0}),
    encode_content("a refund", {}),
]


def scaled(mean: float) -> ServedEncoder:
    """The encoder with a scale of the amount."""
    return with_scales(SERVED, {"amount": Scale(mean, 2.0)})


def compute_phi(served: ServedEncoder, contents: list[str]) -> torch.Tensor:
    return served.features(served.z_many(contents))


def rows(served: ServedEncoder, *labels: str) -> Rows:
    """The first events, with these labels."""
    contents = CONTENTS[: len(labels)]
    return Rows(compute_phi(served, contents), list(labels), contents, are_all=True)


def filled(served: ServedEncoder, *labels: str) -> EventRing:
    ring = EventRing(CONFIG.head_features)
    assert not ring.follow(served), "there were none"
    assert ring.add(rows(served, *labels)).tolist() == list(range(len(labels)))
    return ring


def test_it_is_bounded_and_numbers_events_from_the_first_one() -> None:
    # The ring has four places.
    ring = EventRing(MAX_BYTES // 16)
    for number in range(6):
        places_B = ring.add(Rows(torch.full((1, MAX_BYTES // 16), float(number)), [str(number)], [""], are_all=True))
        assert places_B.tolist() == [number % 4]
    assert len(ring) == 4 and ring.labels == ["4", "5", "2", "3"] and ring.numbers == [4, 5, 2, 3]
    assert ring.phi_NR[:, 0].tolist() == [4, 5, 2, 3]
    ring.add(Rows(torch.ones(9, MAX_BYTES // 16), ["x"] * 9, [""] * 9, are_all=True))
    assert len(ring) == 4 and set(ring.labels) == {"x"}


def test_under_other_scales_events_with_numbers_are_encoded_again() -> None:
    # No number has a scale.
    ring = filled(SERVED, "a", "b", "c")
    for served in (scaled(0.0), scaled(5.0), SERVED):
        assert ring.is_read_by(served) and ring.follow(served)
        assert torch.equal(ring.phi_NR, compute_phi(served, CONTENTS))
    assert ring.labels == ["a", "b", "c"]
    assert not torch.equal(compute_phi(scaled(0.0), CONTENTS), compute_phi(scaled(5.0), CONTENTS))


def test_an_encoder_with_other_scales_reads_events_under_its_own() -> None:
    ring = filled(scaled(0.0), "a", "b", "c")
    before = scaled(5.0)
    assert torch.equal(
        ring.features_under(before, torch.tensor([2, 0])), compute_phi(before, [CONTENTS[2], CONTENTS[0]])
    )
    assert torch.equal(ring.phi_NR, compute_phi(scaled(0.0), CONTENTS)), "they stay as they are"


def test_another_encoder_empties_the_ring() -> None:
    ring = filled(SERVED, "a", "b")
    other = small_served(small_strata(8))
    assert not ring.is_read_by(other)
    assert not ring.follow(other) and not len(ring)


def test_nothing_is_left_of_forgotten_events() -> None:
    ring = filled(SERVED, "a", "b", "c")
    ring.forget()
    assert not len(ring) and ring.follow(scaled(1.0))
    ring.add(rows(scaled(1.0), "d"))
    assert ring.labels == ["d"] and torch.equal(ring.phi_NR, compute_phi(scaled(1.0), CONTENTS[:1]))


def test_events_follow_the_names_of_classes() -> None:
    ring = filled(SERVED, "a", "b")
    ring.rename({"a": "c", "b": "b"}.__getitem__)
    assert ring.labels == ["c", "b"]
