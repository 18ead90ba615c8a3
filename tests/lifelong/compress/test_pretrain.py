"""Mixed pretraining: what each objective sees and learns, its cost, and a training that goes on where it was killed."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from learner.errors import StateRefused
from lifelong.compress.distillation import resume, write_checkpoint
from lifelong.compress.pretrain import (
    OBJECTIVES,
    SHAPE,
    CurvePoint,
    Mix,
    MixedPretraining,
    MixOptions,
    cropped,
    find_mask_id,
    key_of_pretraining,
    new_encoder,
    new_tokenizer,
    token_outputs,
)
from model.config import StrataConfig
from model.errors import WrongConfig
from model.ragged import RaggedBatch
from model.strata import Strata
from model.tokenizer import TextTokenizer
from tests.lifelong.compress.members import DENSE
from tests.services.members.small import tokenizer_json

MASK = 3
CONFIG: StrataConfig = dataclasses.replace(DENSE, embed_dim=16, n_layers=2)
RNG = torch.Generator().manual_seed(1)
TEXTS = [[1, *torch.randint(4, 60, (length,), generator=RNG).tolist(), 2] for length in (3, 5, 5, 8, 12) * 4]
OPTIONS = MixOptions(tokens=640, batch_tokens=64, max_tokens=12)


def only(objective: str, **changes: Any) -> MixOptions:
    mix = Mix(0, 0, 0, 0)._replace(**{objective: 1})
    return dataclasses.replace(OPTIONS, mix=mix, **changes)


def count_weights(strata: Strata) -> float:
    return float(sum(value.detach().double().sum() for value in strata.parameters()))


def training(options: MixOptions = OPTIONS, *, seed: int = 0) -> MixedPretraining:
    return MixedPretraining(new_encoder(CONFIG, seed=seed), TEXTS, MASK, options, probe=count_weights, num_probes=4)


def finished(mixed: MixedPretraining) -> dict[str, Tensor]:
    while not mixed.is_done:
        mixed.step()
    # The third number is the time.
    state = mixed.tensors()
    return state | {"spent": state["spent"][:2], "curve": state["curve"][:, [0, 1, 3]]}


@pytest.mark.parametrize("killed_after", [0, 1, 4, 9])
def test_a_killed_training_gives_the_same_bits(tmp_path: Path, killed_after: int) -> None:
    whole = finished(training())
    killed = training()
    for _ in range(killed_after):
        killed.step()
    path = tmp_path / "checkpoint"
    write_checkpoint(path, killed, "key")
    # The initial weights are restored, too.
    again = training(seed=7)
    assert resume(path, again, "key") and again.num_done == killed_after
    found = finished(again)
    assert found.keys() == whole.keys()
    assert not [name for name in found if not torch.equal(found[name], whole[name])]
    with pytest.raises(StateRefused, match="other options"):
        resume(path, training(), "another key")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_objective_learns(objective: str) -> None:
    mixed = training(only(objective, tokens=16_000, rate=5e-3, dropout=0.0))
    losses: list[float] = []
    while not mixed.is_done:
        name, loss = mixed.step()
        assert name == objective
        losses.append(loss)
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_objective_gets_more_tokens_than_the_budget(objective: str) -> None:
    mixed = training(only(objective))
    finished(mixed)
    assert mixed.num_done == 10
    # Crops are shorter than their texts.
    assert (0.5 if objective == "contrast" else 0.75) * 640 <= mixed.tokens <= 640


def test_the_mixture_has_the_shares_of_its_weights() -> None:
    mixed = training(dataclasses.replace(OPTIONS, tokens=64 * 300, mix=Mix(3, 1, 0, 0)))
    drawn = [mixed.step()[0] for _ in range(mixed.num_steps)]
    assert set(drawn) == {"masked", "causal"}
    assert 0.65 < drawn.count("masked") / len(drawn) < 0.85


def test_the_curve_has_the_score_against_tokens_flops_and_minutes() -> None:
    mixed = training()
    finished(mixed)
    curve: list[CurvePoint] = mixed.curve
    assert len(curve) == 6 and curve[0].tokens == 0
    for cost in ("tokens", "flops", "minutes"):
        values = [getattr(point, cost) for point in curve]
        assert values == sorted(values)
    assert curve[-1].score == count_weights(mixed.strata) != curve[0].score
    assert curve[-1].tokens == mixed.tokens


def test_only_the_upper_layers_change() -> None:
    mixed = training(dataclasses.replace(OPTIONS, first_layer=1))
    before = {name: value.clone() for name, value in mixed.strata.state_dict().items()}
    finished(mixed)
    changed = {name for name, value in mixed.strata.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("layers.1.") for name in changed)


def test_a_causal_output_does_not_depend_on_later_tokens() -> None:
    strata = new_encoder(CONFIG)
    ids = TEXTS[4]
    changed = [*ids[:6], *(59 - token for token in ids[6:])]
    for is_causal in (True, False):
        one_TD, other_TD = (token_outputs(strata, RaggedBatch.of([x]), is_causal=is_causal) for x in (ids, changed))
        assert torch.equal(one_TD[:6], other_TD[:6]) is is_causal
        assert not torch.equal(one_TD[6:], other_TD[6:])


def test_token_outputs_are_those_of_the_encoder() -> None:
    strata = new_encoder(CONFIG)
    batch = RaggedBatch.of(TEXTS)
    assert torch.equal(token_outputs(strata, batch, is_causal=False), strata.encode_prefix(batch, CONFIG.n_layers))


@given(st.integers(1, 30), st.integers(0, 1 << 20))
@settings(max_examples=50)
def test_a_crop_is_a_run_of_at_least_half_of_the_tokens(length: int, seed: int) -> None:
    ids = [1, *range(10, 10 + length), 2]
    crop = cropped(ids, torch.Generator().manual_seed(seed))
    assert (crop[0], crop[-1]) == (1, 2)
    inner = crop[1:-1]
    assert inner == list(range(inner[0], inner[0] + len(inner))) and set(inner) <= set(ids)
    assert 2 * len(inner) >= length


@pytest.mark.parametrize(
    ("texts", "changes"),
    [([[1, 2]], {}), (TEXTS, {"first_layer": 3}), (TEXTS, {"mix": Mix(0, 0, 0, 0)})],
)
def test_a_training_of_nothing_is_refused(texts: list[list[int]], changes: dict[str, Any]) -> None:
    with pytest.raises(WrongConfig, match="expected texts"):
        MixedPretraining(new_encoder(CONFIG), texts, MASK, dataclasses.replace(OPTIONS, **changes))


def test_the_key_depends_on_start_texts_and_options() -> None:
    key = key_of_pretraining(new_encoder(CONFIG), TEXTS, OPTIONS)
    assert key == key_of_pretraining(new_encoder(CONFIG), TEXTS, OPTIONS)
    assert key != key_of_pretraining(new_encoder(CONFIG, seed=1), TEXTS, OPTIONS)
    assert key != key_of_pretraining(new_encoder(CONFIG), TEXTS[1:], OPTIONS)
    assert key != key_of_pretraining(new_encoder(CONFIG), TEXTS, dataclasses.replace(OPTIONS, seed=1))


def test_a_new_vocabulary_reads_every_character_and_is_the_same_each_time() -> None:
    texts = ["Where is my card?", "my card is lost", "我想订一家酒店", "请问酒店的电话是多少"] * 3
    made = new_tokenizer(texts, size=300)
    assert made == new_tokenizer(texts, size=300)
    tokenizer = TextTokenizer(made)
    assert tokenizer.vocab_size <= 300 and find_mask_id(made) == MASK
    ids, upper, emoji = tokenizer.encode_many(["my card", "MY CARD", "🙂"])
    assert ids == upper and len(emoji) > 2
    assert ids[0] == json.loads(made)["model"]["vocab"].get("[CLS]", 1)
    with pytest.raises(WrongConfig, match="no mask token"):
        find_mask_id(tokenizer_json())


def test_the_shape_has_four_to_five_million_parameters() -> None:
    assert 4e6 < sum(value.numel() for value in new_encoder(SHAPE).parameters()) < 5e6
