"""Features as part of a vector: the vector depends on its event only, to the last bit; scales are stored."""

from dataclasses import replace
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lifelong.plugins.inputs.feature_tensors import CLIP, SCALES, TENSORS, FeatureMap, Scale, measure_scales
from lifelong.plugins.inputs.features import FEATURES
from model.errors import NonFinite, WrongShape
from model.inputs import InputMap
from model.qtensor import QTensor, from_blob
from tests.model.test_qtensor import make_entry
from wire.inputs import Features, ParsedContent

WIDTH = 384
FIRST = (-0.04841160, -0.01407834, 0.02301832, -0.00327828)
SCALED = FeatureMap(WIDTH, {"price": Scale(2.0, 0.5), "demand": Scale(0.0, 1.0)}, num_labels=64)
names = st.sampled_from(["price", "demand", "city"])
events = st.dictionaries(names, st.floats(-9, 9) | st.sampled_from(["a", "b"]), min_size=1)


def vectors(*features: Features, z_BD: Tensor | None = None, made_by: FeatureMap = SCALED) -> Tensor:
    z_BD = torch.zeros(len(features), WIDTH) if z_BD is None else z_BD
    texts = ["a text" if z_D.any() else "" for z_D in z_BD]
    made = InputMap(WIDTH, {SCALES: made_by.to_tensor()})
    said = [
        ParsedContent(text, ((FEATURES, values),) if values else ())
        for text, values in zip(texts, features, strict=True)
    ]
    return made.joined(z_BD, said)


@given(st.lists(events, min_size=1, max_size=4))
def test_a_vector_depends_on_its_event_only(features: list[Features]) -> None:
    together_BD = vectors(*features)
    for row, values in enumerate(features):
        assert together_BD[row].equal(vectors(dict([*values.items()][::-1]))[0])
    assert torch.allclose(together_BD.norm(dim=1), torch.ones(len(features)))


def test_a_text_without_features_keeps_its_vector_to_the_last_bit() -> None:
    z_BD = torch.nn.functional.normalize(torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(1)), dim=1)
    assert vectors({}, {}, z_BD=z_BD) is z_BD
    joined_BD = vectors({}, {"city": "a"}, z_BD=z_BD)
    assert joined_BD[0].equal(z_BD[0])
    # Text and features have equal weight.
    assert float(joined_BD[1] @ z_BD[1]) == pytest.approx(2**-0.5, abs=0.1)


def test_a_number_is_standardised_and_clipped() -> None:
    mean_D, above_D, far_D, farther_D = vectors({"price": 2.0}, {"price": 2.5}, {"price": 4.0}, {"price": 1e6})
    assert mean_D.equal(vectors({"unknown": 7.0})[0]), "the mean, and a number that was never seen, add nothing"
    assert above_D @ mean_D > far_D @ mean_D
    assert far_D.equal(farther_D), f"beyond {CLIP} deviations"


def test_categories_of_one_name_are_almost_orthogonal_apart_from_the_constant() -> None:
    constant_D, one_D, other_D = vectors({"unknown": 0.0}, {"city": "a"}, {"city": "b"})
    assert float(one_D @ constant_D) == pytest.approx(2**-0.5, abs=0.15)
    assert float(one_D @ other_D) == pytest.approx(0.5, abs=0.15)
    assert not one_D.equal(vectors({"town": "a"})[0])


def test_the_directions_are_the_same_in_every_release() -> None:
    """Versions in the store have only the scales: other directions would change their answers."""
    (z_D,) = vectors({"price": 2.5, "city": "a"})
    assert z_D[:4].tolist() == pytest.approx(FIRST, abs=1e-6)


def test_scales_are_stored_and_read_back() -> None:
    stored = SCALED.to_tensor()
    back = from_blob(make_entry(stored, stored.to_blob()), stored.to_blob())
    read = FeatureMap.of(WIDTH, back)
    assert (read.scales, read.num_labels) == (SCALED.scales, 64)
    assert FeatureMap.of(WIDTH, None).scales == {}


def test_invalid_stored_scales_are_refused() -> None:
    stored = SCALED.to_tensor()
    flat = replace(stored, parts={**stored.parts, "scale": torch.zeros(2)})
    with pytest.raises(NonFinite, match="not positive"):
        from_blob(make_entry(flat, flat.to_blob()), flat.to_blob())
    for names, message in ((b'["price"]', "1 names, 2 means"), (b"[1, 2]", "not a list"), (b"[", "not JSON")):
        parts = {**stored.parts, "names": torch.frombuffer(bytearray(names), dtype=torch.uint8)}
        with pytest.raises(WrongShape, match=message):
            FeatureMap.of(WIDTH, QTensor(SCALES, stored.scheme, parts))


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=8), st.randoms())
def test_scales_do_not_depend_on_the_order(values: list[float], random: Random) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    assert measure_scales([{"x": value} for value in values]) == measure_scales([{"x": value} for value in shuffled])


def test_numbers_that_are_too_large_have_no_scale() -> None:
    assert measure_scales([{"x": 1e308}, {"x": -1e308}, {"x": 1e308}]) == {}


def test_all_scales_are_measured_again_after_twice_as_many_labels_and_before_only_new_numbers() -> None:
    values: list[Features] = [{"price": 1.0, "late": 3.0}, {"price": 9.0, "late": 5.0}]
    old = SCALED.to_tensor()

    def fitted(num_labels: int, *, is_complete: bool) -> FeatureMap:
        return FeatureMap.of(WIDTH, TENSORS.fit(values, old, num_labels=num_labels, is_complete=is_complete))

    anew = fitted(128, is_complete=True)
    assert ({*anew.scales}, anew.num_labels) == ({"price", "late"}, 128)
    for num_labels, is_complete in ((127, True), (128, False)):
        kept = fitted(num_labels, is_complete=is_complete)
        assert kept.scales == {"late": Scale(4.0, 1.0)} | SCALED.scales and kept.num_labels == 64
    assert TENSORS.fit(values[:1], old, num_labels=99, is_complete=False) is None
