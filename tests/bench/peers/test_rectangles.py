"""Checks how a padded encoder runs a batch."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.peers import rectangles
from bench.peers.choices import Choices, EncodeSettings
from bench.peers.rectangles import EncodePlan, Ids, PaddedEngine, Run, Shape, Variant, pad

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


def test_the_fastest_variant_is_taken_and_remembered(tmp_path: Path) -> None:
    variants = [variant("slow", slow), variant("fast", length_and_sum)]
    token_ids = [[1, 2], [3]] * 10
    choices = Choices(tmp_path / "x.json")
    how, encode = PaddedEngine(variants, 1, choices).prepare(token_ids)
    assert how.startswith("fast")
    assert encode(token_ids).tolist() == expected(token_ids)
    found = choices.find(token_ids)
    assert found is not None
    assert found.variant == "fast"


def test_what_is_remembered_is_not_searched_again(tmp_path: Path) -> None:
    token_ids = [[1, 2], [3]] * 10
    choices = Choices(tmp_path / "x.json")
    choices.store(token_ids, EncodeSettings("slow", size=4))
    variants = [variant("slow", slow), variant("fast", length_and_sum)]
    how, encode = PaddedEngine(variants, 1, choices).prepare(token_ids)
    assert how == "slow, in 4s"
    assert encode(token_ids).tolist() == expected(token_ids)
    how, _ = PaddedEngine(variants[1:], 1, choices).prepare(token_ids)
    assert how.startswith("fast"), "a variant that there is no more is not chosen"


def test_a_search_ends_in_time_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rectangles, "SEARCH_S", 0.0)
    token_ids = [[1, 2], [3]] * 10
    choices = Choices(tmp_path / "x.json")
    variants = [variant("slow", slow), variant("fast", length_and_sum)]
    how, _ = PaddedEngine(variants, 1, choices).prepare(token_ids)
    assert how == "slow, in 8s, search ended after 0 s"
    assert choices.find(token_ids) is None


def test_a_shape_is_fixed_only_where_all_texts_have_it(tmp_path: Path) -> None:
    shapes: list[Shape | None] = []

    def load(num_threads: int, lanes: int, shape: Shape | None = None) -> list[Run]:
        shapes.append(shape)
        return [length_and_sum if shape else slow] * lanes

    engine = PaddedEngine([Variant("x", load, fixes_shape=True)], 1, Choices(tmp_path / "x.json"))
    engine.prepare([[1, 2], [3]])
    assert shapes == [None]
    how, encode = engine.prepare([[1, 2], [3, 4]])
    assert how == "x, shape fixed"
    assert shapes == [None, (2, 2)]
    assert encode([[1, 2], [3, 4], [5, 6], [7, 8]]).tolist() == [[2, 3], [2, 7], [2, 11], [2, 15]]
