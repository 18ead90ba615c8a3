"""Checks how a padded encoder runs a batch, and the search for its settings."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.peers import rectangles
from bench.peers.rectangles import Choices, EncodePlan, Ids, PaddedEngine, Run, Shape, Variant, pad

LANES = 2
THREADS = ThreadPoolExecutor(LANES)
TOKEN_IDS = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=6), min_size=1, max_size=20)


def length_and_sum(ids_BT: Ids, mask_BT: Ids) -> object:
    """Encodes a text as its length and the sum of its tokens, which are easy to check."""
    return np.stack((mask_BT.sum(1), (ids_BT * mask_BT).sum(1)), axis=1)


def expected(token_ids: list[list[int]]) -> list[list[int]]:
    return [[len(ids), sum(ids)] for ids in token_ids]


def test_padding_is_masked() -> None:
    ids_BT, mask_BT = pad([[5], [6, 7]])
    assert ids_BT.tolist() == [[5, 0], [6, 7]]
    assert mask_BT.tolist() == [[1, 0], [1, 1]]


@given(TOKEN_IDS, st.integers(0, 5), st.integers(1, LANES))
def test_every_way_gives_the_callers_order(token_ids: list[list[int]], size: int, lanes: int) -> None:
    if lanes > 1 and size == 0:
        return  # there is nothing to share out
    plan = EncodePlan((length_and_sum,) * lanes, size)
    assert plan.encode(token_ids, THREADS).tolist() == expected(token_ids)


def slow(ids_BT: Ids, mask_BT: Ids) -> object:
    end_s = time.process_time() + 0.01
    while time.process_time() < end_s:
        pass
    return length_and_sum(ids_BT, mask_BT)


def variant(name: str, run: Run) -> Variant:
    return Variant(name, lambda *_: [run])


TEXTS = [[1, 2], [3]] * 10
SLOW_AND_FAST = (variant("slow", slow), variant("fast", length_and_sum))


def test_the_fastest_variant_is_taken_and_all_are_remembered(tmp_path: Path) -> None:
    choices = Choices(tmp_path / "x.json")
    prepared = PaddedEngine(SLOW_AND_FAST, 1, choices).prepare(TEXTS)
    assert prepared.how.startswith("fast")
    assert prepared.is_whole
    assert prepared.encode(TEXTS).tolist() == expected(TEXTS)
    tried = {"slow", "slow, in 8s", "slow, in 4s", "fast", "fast, in 8s", "fast, in 4s"}
    assert set(choices.tried(TEXTS)) == tried


def test_stored_settings_are_not_tried_again(tmp_path: Path) -> None:
    choices = Choices(tmp_path / "x.json")
    choices.store(TEXTS, {"slow": 2.0, "slow, in 4s": 1.0, "slow, in 8s": 3.0, "another, in 8s": 0.0})
    prepared = PaddedEngine(SLOW_AND_FAST[:1], 1, choices).prepare(TEXTS)
    assert prepared.how == "slow, in 4s", "a removed variant is not chosen"
    assert prepared.encode(TEXTS).tolist() == expected(TEXTS)


def test_a_new_variant_is_tried_and_compared_with_stored_settings(tmp_path: Path) -> None:
    choices = Choices(tmp_path / "x.json")
    PaddedEngine(SLOW_AND_FAST[:1], 1, choices).prepare(TEXTS)
    assert PaddedEngine(SLOW_AND_FAST, 1, choices).prepare(TEXTS).how.startswith("fast")


def test_a_search_ends_in_time_and_goes_on_in_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = Choices(tmp_path / "x.json")
    with monkeypatch.context() as patch:
        patch.setattr(rectangles, "SEARCH_S", 0.0)
        prepared = PaddedEngine(SLOW_AND_FAST, 1, choices).prepare(TEXTS)
    assert (prepared.how, prepared.is_whole) == ("slow, in 8s, search ended after 0 s", False)
    assert set(choices.tried(TEXTS)) == {"slow, in 8s"}
    prepared = PaddedEngine(SLOW_AND_FAST, 1, choices).prepare(TEXTS)
    assert prepared.how.startswith("fast")
    assert prepared.is_whole


def test_a_shape_is_fixed_only_if_all_texts_have_it(tmp_path: Path) -> None:
    shapes: list[Shape | None] = []

    def load(num_threads: int, lanes: int, shape: Shape | None = None) -> list[Run]:
        shapes.append(shape)
        return [length_and_sum if shape else slow] * lanes

    engine = PaddedEngine([Variant("x", load, fixes_shape=True)], 1, Choices(tmp_path / "x.json"))
    engine.prepare([[1, 2], [3]])
    assert shapes == [None]
    prepared = engine.prepare([[1, 2], [3, 4]])
    assert prepared.how == "x, shape fixed"
    assert shapes == [None, (2, 2)]
    assert prepared.encode([[1, 2], [3, 4], [5, 6], [7, 8]]).tolist() == [[2, 3], [2, 7], [2, 11], [2, 15]]
