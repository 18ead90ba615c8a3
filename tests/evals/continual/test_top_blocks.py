import copy
from collections.abc import Callable

import pytest
import torch

from evals.continual.contender import Traits
from evals.continual.frozen import FrozenEncoder
from evals.continual.gradient import GradientLearner, Recipe
from evals.continual.recipes import adamw, vector_net
from evals.continual.top_blocks import TokenAdapter, TopBlocks
from evals.streams.benchmark import Part
from learner.rounds.strategies import ExperienceReplay
from tests.learner.small_learner import save_encoder, small_config, tokenizer
from tests.learner.streams import TOPICS, label_of, make_text

TEXTS = [make_text(number) for number in range(120)]
LABELS_N = torch.tensor([TOPICS.index(label_of(number)) for number in range(120)])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> FrozenEncoder:
    return FrozenEncoder(small_config(), save_encoder(tmp_path_factory.mktemp("encoder")))


@pytest.fixture
def net(encoder: FrozenEncoder) -> TopBlocks:
    return TopBlocks(encoder, vector_net(64, len(TOPICS), seed=0), num_blocks=1)


def on_tokens(net: TopBlocks, *, passes: float = 2.0) -> TokenAdapter:
    recipe = Recipe(strategy=ExperienceReplay, rate=3e-3, batch=8, optimizer=adamw).paced(passes)
    return TokenAdapter(tokenizer(), GradientLearner(net, recipe, capacity=40, seed=0), TEXTS)


def changes(net: TopBlocks, act: Callable[[], None]) -> dict[str, bool]:
    """Returns whether `act` changes each parameter, by name."""
    before = copy.deepcopy(net.state_dict())
    act()
    return {name: not torch.equal(before[name], parameter) for name, parameter in net.named_parameters()}


def test_the_blocks_and_the_head_are_trained_and_the_encoder_does_not_change(
    encoder: FrozenEncoder, net: TopBlocks
) -> None:
    weights = copy.deepcopy(encoder.strata.state_dict())
    learner = on_tokens(net, passes=12.0)
    changed = changes(net, lambda: learner.learn_many(Part(TEXTS, LABELS_N)))
    assert all(changed.values()) and {name.split(".")[0] for name in changed} == {"top", "head"}
    assert all(torch.equal(weights[name], value) for name, value in encoder.strata.state_dict().items())
    right_N = learner.predict_many(TEXTS) == LABELS_N
    # The encoder is random, and there are five classes.
    assert float(right_N.float().mean()) > 0.5
    assert learner.traits == Traits(precision="int8", encoder="trained")
    assert learner.usage.samples == 40


def test_untrained_blocks_compute_the_same_as_the_served_encoder(encoder: FrozenEncoder, net: TopBlocks) -> None:
    ids = on_tokens(net)._rows(TEXTS)
    with torch.no_grad():
        logits_NC = net(ids)
    expected_NC = net.head(encoder.vectors(TEXTS))
    assert torch.allclose(logits_NC, expected_NC, atol=0.1)


def test_texts_are_rows_of_equal_width_and_padding_changes_nothing(net: TopBlocks) -> None:
    rows = on_tokens(net)._rows(["refund", TEXTS[0]])
    (ids,) = tokenizer().encode_many(["refund"])
    assert rows.dtype == torch.int32 and rows.shape[1] > len(ids)
    with torch.no_grad():
        assert torch.allclose(net(rows)[:1], net(torch.tensor([ids])), atol=1e-5)


def test_a_copy_learns_independently(net: TopBlocks) -> None:
    """Avalanche's strategies copy a net as the teacher or as the initial weights."""
    teacher = copy.deepcopy(net)
    changed = changes(teacher, lambda: on_tokens(net).learn_many(Part(TEXTS, LABELS_N)))
    assert not any(changed.values())
