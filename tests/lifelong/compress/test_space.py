"""The space of a search: genes fit the limit, are canonical, and are shapes that an encoder can have."""

import dataclasses
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lifelong.compress.cost import parameters
from lifelong.compress.space import Genes, Space, groups
from model.config import MINILM_L6, LayerSpec, StrataConfig
from model.errors import WrongConfig
from tests.lifelong.compress.members import DENSE

SPACE = Space(dense=MINILM_L6, stored=0.35, num_tokens=512)

SEEDS = st.integers(0, 1 << 30)


@given(SEEDS)
def test_every_draw_and_child_fits_the_limit_and_is_a_valid_shape(seed: int) -> None:
    rng = random.Random(seed)
    one, other = SPACE.draw(rng), SPACE.uniform(rng)
    for genes in (one, other, SPACE.child(one, other, rng)):
        assert SPACE.share(genes) <= 0.35
        assert SPACE.canonical(genes) == genes
        config = SPACE.config(genes)
        assert StrataConfig.from_json(config.canonical_json()).canonical_json() == config.canonical_json()
        assert msgspec.json.decode(genes.key, type=Genes) == genes


@given(SEEDS)
def test_a_uniform_encoder_has_equal_layers_and_groups(seed: int) -> None:
    genes = SPACE.uniform(random.Random(seed))
    assert genes.attention == genes.ffn
    assert len({len(group) for group in groups(genes.ffn)}) == 1
    assert len({*genes.kept}) == len({*genes.local}) == 1


@given(SEEDS)
def test_a_child_of_equal_parents_differs_in_few_genes(seed: int) -> None:
    rng = random.Random(seed)
    parent = SPACE.draw(rng)
    child = SPACE.child(parent, parent, rng)
    bounds = [abs(len({*getattr(child, name)}) - len({*getattr(parent, name)})) for name in ("attention", "ffn")]
    assert max(bounds) <= 1


def test_the_largest_and_the_smallest_enclose_all_others() -> None:
    space = Space(dense=MINILM_L6)
    rng = random.Random(0)
    shares = [space.share(space.draw(rng)) for _ in range(200)]
    assert space.share(space.smallest) <= min(shares)
    assert max(shares) <= space.share(space.largest)


def test_genes_without_an_effect_have_their_first_choice() -> None:
    genes = replace(SPACE.largest, rank=4, bits=4, sparsity=0.5, local=(True,) * 6)
    canonical = dataclasses.replace(SPACE, num_tokens=16).canonical(genes)
    assert canonical == replace(SPACE.largest, bits=4)


def test_zero_blocks_are_not_counted() -> None:
    dense = replace(SPACE.largest, embed_dim=96)
    sparse = replace(dense, sparsity=0.5)
    half = parameters(SPACE.config(dense)).feed_forward // 2
    assert SPACE.parameters(dense) - SPACE.parameters(sparse) == half
    assert SPACE.megabytes(dense) - SPACE.megabytes(sparse) == pytest.approx(half / 1e6)


def test_text_for_people_names_what_differs() -> None:
    genes = replace(SPACE.smallest, attention=(0, 0, 2, 2, 4, 4))
    assert SPACE.canonical(genes).shown() == (
        "attention aabbcc, ffn aaaaaa, kv 2, E 48, r 0, heads hhhhhh, local 111111, 75% sparse, 8 bit"
    )


def test_a_limit_that_nothing_meets_is_refused() -> None:
    with pytest.raises(WrongConfig, match=r"none of 1000 encoders stores at most 1% .* the smallest stores"):
        dataclasses.replace(SPACE, stored=0.01).draw(random.Random(0))


def test_a_search_starts_from_a_plain_encoder() -> None:
    tied = dataclasses.replace(DENSE, layers=(LayerSpec(), LayerSpec(ffn=0), LayerSpec(), LayerSpec()))
    for config in (tied, dataclasses.replace(DENSE, embed_dim=16)):
        with pytest.raises(WrongConfig, match="share nothing"):
            Space(dense=config)
