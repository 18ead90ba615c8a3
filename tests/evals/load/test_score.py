"""The figures, on cases with known results."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.load.score import (
    Audit,
    Hits,
    Label,
    Throughput,
    VersionTimes,
    accuracy_by_stage,
    audit,
    label_to_live,
    model_bytes,
    nearest_rank,
    parity,
    per_second,
    percentiles,
)
from wire.records import Evaluation, PrecisionEvaluation, TensorEntry, TensorPart, WeightManifest


def test_unanswered_events_count_as_wrong() -> None:
    assert Hits(sent=4, answered=3, right=3).accuracy == 75.0
    assert Hits().accuracy == 0.0


def test_the_matrix_has_a_row_after_each_stage() -> None:
    hits = {(0, 0): Hits(2, 2, 2), (1, 0): Hits(2, 2, 1), (1, 1): Hits(4, 4, 3), (-1, 0): Hits(9, 9, 0)}
    assert accuracy_by_stage(hits) == ((100.0,), (50.0, 75.0))
    assert accuracy_by_stage({}) == ()


@pytest.mark.parametrize(
    ("values", "p50", "p99"),
    [
        ([], None, None),
        ([7.0], 7.0, 7.0),
        ([1.0, 2.0], 1.0, 2.0),
        ([1.0, math.inf], 1.0, None),
        ([math.inf], None, None),
    ],
)
def test_percentiles_are_values_that_occurred(values: list[float], p50: float | None, p99: float | None) -> None:
    assert percentiles(values, 50, 99) == {"p50": p50, "p99": p99}


@given(st.lists(st.integers(0, 1000), min_size=1), st.integers(1, 100))
def test_a_percentile_has_its_share_at_or_below(values: list[int], rank: int) -> None:
    percentile = percentiles(values, rank)[f"p{rank}"]
    assert percentile is not None
    assert sum(value <= percentile for value in values) >= rank / 100 * len(values)
    assert sum(value < percentile for value in values) < rank / 100 * len(values)


FEEDBACK = "feedback.v1/0"


def test_a_label_is_live_at_the_first_answer_under_a_version_that_covers_it() -> None:
    services = [
        VersionTimes({FEEDBACK: 5}, 3_000),
        VersionTimes({FEEDBACK: 8}, 4_000),
        VersionTimes({FEEDBACK: 9}, 3_500),
    ]
    labels = [Label(1_000, FEEDBACK, 4), Label(1_000, FEEDBACK, 5), Label(1_000, FEEDBACK, 8)]
    # an end is the next offset to read: the first version does not cover offset 5
    assert label_to_live(labels, services) == [2.0, 2.5, 2.5]


def test_a_label_that_no_version_covers_is_never_live() -> None:
    labels = [Label(1_000, FEEDBACK, 9), Label(1_000, "feedback.v1/1", 0)]
    assert label_to_live(labels, [VersionTimes({FEEDBACK: 9}, 2_000)]) == [math.inf, math.inf]
    assert label_to_live(labels, []) == [math.inf, math.inf]


def test_a_version_that_went_back_covers_less() -> None:
    after_a_rollback = [VersionTimes({FEEDBACK: 9}, 2_000), VersionTimes({FEEDBACK: 3}, 5_000)]
    assert label_to_live([Label(1_000, FEEDBACK, 6), Label(4_000, FEEDBACK, 2)], after_a_rollback) == [1.0, 0.0]


offsets = st.integers(0, 20)
any_services = st.lists(
    st.builds(VersionTimes, st.dictionaries(st.sampled_from("ab"), offsets), st.integers(0, 50_000))
)
any_labels = st.lists(st.builds(Label, st.integers(0, 50_000), st.sampled_from("abc"), offsets))


@given(any_labels, any_services)
def test_label_to_live_equals_a_linear_search(labels: list[Label], services: list[VersionTimes]) -> None:
    def search(label: Label) -> float:
        covering = (
            each.first_answer_ms for each in services if each.trained_through.get(label.source, 0) > label.offset
        )
        return max(0.0, min(covering, default=math.inf) - label.time_ms) / 1000

    assert label_to_live(labels, services) == [search(label) for label in labels]


@pytest.mark.parametrize(
    ("num_sent", "numbers", "expected"),
    [
        (0, [], Audit(0, 0, 0)),
        (3, [2, 1, 0], Audit(3, 0, 0)),
        (3, [0, 0, 0], Audit(1, 2, 2)),
        (2, [1, 2, 7], Audit(1, 1, 0)),  # numbers that were never sent
    ],
)
def test_lost_and_duplicates(num_sent: int, numbers: list[int], expected: Audit) -> None:
    assert audit(num_sent, Counter(numbers)) == expected


@given(st.integers(0, 30), st.lists(st.integers(0, 29)))
def test_every_answer_is_a_first_answer_or_a_duplicate(num_sent: int, numbers: list[int]) -> None:
    counts = Counter(number for number in numbers if number < num_sent)
    assert audit(num_sent, Counter(numbers)) == Audit(len(counts), num_sent - len(counts), counts.total() - len(counts))


def test_throughput_leaves_the_pauses_out() -> None:
    assert per_second([]) == 0.0
    assert per_second([Throughput(0, 0, 0).until(500).until(1_000), Throughput(8, 9_000, 10_000)]) == 5.0


def test_bytes_in_full_precision_leave_out_scales_and_sums() -> None:
    quantized = TensorEntry(
        name="w",
        scheme="w8c",
        digest="",
        num_bytes=24,
        parts=(
            TensorPart(name="q", dtype="I8", shape=(2, 3)),
            TensorPart(name="scale", dtype="F16", shape=(2,)),
            TensorPart(name="ksum", dtype="I32", shape=(2,)),
            TensorPart(name="bias", dtype="F32", shape=(2,)),
        ),
    )
    planes = {"hi": (2, 32), "lo": (2, 32), "m": (2, 1), "scale": (2,), "ksum": (2,)}
    nested = TensorEntry(
        name="u",
        scheme="n8g64",
        digest="",
        num_bytes=142,
        parts=tuple(TensorPart(name=name, dtype="U8", shape=shape) for name, shape in planes.items()),
    )
    assert model_bytes(manifest(nested)) == {"fp32": 4 * 2 * 64, "served": 142}
    plain = TensorEntry(
        name="n", scheme="fp32", digest="", num_bytes=20, parts=(TensorPart(name="weight", dtype="F32", shape=(5,)),)
    )
    assert model_bytes(manifest(quantized, plain)) == {"fp32": 4 * (6 + 2) + 20, "served": 44}


def test_parity_is_of_the_best_precision() -> None:
    assert parity(manifest()) == {"cosine": 0.9, "agreement": 0.8}


def manifest(*tensors: TensorEntry) -> WeightManifest:
    return WeightManifest(
        version=1,
        parent=0,
        model_spec="",
        config="",
        labels=(),
        precisions=(PrecisionEvaluation(name="int8", cosine=0.9, agreement=0.8),),
        tensors=tensors,
        probes=(),
        trained_through={},
        evaluation=Evaluation(),
        epoch=1,
        created_ms=0,
    )


def test_a_percentile_is_one_of_the_values() -> None:
    assert nearest_rank(range(1, 101), 95) == 95
    assert nearest_rank([3.0], 95) == 3.0
    assert nearest_rank([], 95) == math.inf
