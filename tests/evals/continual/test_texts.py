import pytest
import torch

from evals.continual.runner import Run, RunChoice
from evals.continual.texts import STRATEGIES, by_path, settings_within
from evals.streams.benchmark import Benchmark, Part, Texts
from evals.streams.stream import Stage
from tests.learner.small_learner import save_encoder, small_config
from tests.learner.streams import TOPICS, label_of, make_text


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_encoder(tmp_path_factory.mktemp("encoder"))


def part(first: int, end: int, topics: tuple[str, ...]) -> Part[Texts]:
    numbers = [number for number in range(first, end) if label_of(number) in topics]
    labels_N = torch.tensor([TOPICS.index(label_of(number)) for number in numbers])
    return Part([make_text(number) for number in numbers], labels_N)


def benchmark() -> Benchmark[Texts]:
    pairs = (TOPICS[:2], TOPICS[2:])
    stages = (Stage(pair[0], part(0, 100, pair), part(100, 120, pair)) for pair in pairs)
    return Benchmark("topics", TOPICS, tuple(stages))


def measured(name: str, encoder: str, *, buffer: int = 30, passes: float = 2.0) -> Run:
    topics = benchmark()
    choice = RunChoice(seed=0, buffer=buffer, passes=passes, learner=small_config(), encoder=encoder)
    method = by_path(name) if "avalanche" in name else STRATEGIES[name]
    return method.measure(topics, method.make(topics, choice), choice, lambda stage, row: None)


@pytest.mark.parametrize("name", ["er", "er-ace", "der++", "a-gem", "avalanche-replay", "frozen-avalanche-replay"])
def test_memory_and_passes_are_the_same_for_all(name: str, encoder: str) -> None:
    run = measured(name, encoder)
    assert run.usage.samples == 30
    assert abs(run.usage.gradients / run.num_items - 2.0) < 0.5


@pytest.mark.parametrize("name", ["naive", "joint", "lwf", "ewc", "frozen-naive", "frozen-joint"])
def test_strategies_without_memory_store_nothing(name: str, encoder: str) -> None:
    run = measured(name, encoder)
    assert run.usage.samples == 0
    assert run.usage.gradients / run.num_items >= 2.0


def test_heads_encode_every_text_once(encoder: str) -> None:
    for name in ("ridge", "ncm", "lda", "klda", "frozen-er"):
        run = measured(name, encoder)
        assert run.usage.forwards == run.num_items, name


def test_the_learner_stores_the_buffer_and_the_upper_bound_stores_everything(encoder: str) -> None:
    assert measured("lifelong", encoder).usage.samples == 30
    assert 35 <= measured("lifelong", encoder, buffer=40).usage.samples <= 40
    assert measured("lifelong-joint", encoder).usage.samples > 80


@pytest.mark.parametrize("name", ["lifelong", "er", "er-ace", "der++"])
def test_without_a_memory_nothing_is_stored(name: str, encoder: str) -> None:
    usage = measured(name, encoder, buffer=0).usage
    assert (usage.samples, usage.num_bytes) == (0, 0)


def test_holdout_and_memory_share_the_buffer_and_a_small_buffer_freezes_the_encoder() -> None:
    config = small_config(min_holdout=50, deeper_layers=(2, 0))
    small = settings_within(30, config, num_classes=5, num_items=100)
    assert (small.replay_samples, small.holdout_share, small.deepest_layers) == (30, 0.0, 0)
    larger = settings_within(40, config, num_classes=5, num_items=100)
    assert (larger.replay_samples, larger.holdout_samples, larger.trainable_layers) == (32, 8, 1)
    assert larger.holdout_share == 0.08 and larger.min_holdout == 8
    assert settings_within(10_000, config, num_classes=5, num_items=100).holdout_share == config.holdout_share
