import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from evals.continual.contender import Contender, Traits, Usage
from evals.continual.measures import Row
from evals.continual.outcome import run_outcome
from evals.continual.runner import Method, RunChoice, all_at_once, by_stage, flip_labels, shuffle_stages
from evals.streams.benchmark import Benchmark, Part
from evals.streams.stream import Stage
from learner.config import LearnerConfig

CHOICE = RunChoice(seed=0, buffer=0, passes=0.0, learner=LearnerConfig(), encoder="minilm-l6")


class LastClasses(Contender[Tensor]):
    """Memorizes the last `memory` parts. When idle, it studies the part `at_rest` again, if there is one."""

    traits = Traits(precision="fp32")

    def __init__(self, memory: int, *, at_rest: Part[Tensor] | None = None) -> None:
        self._memory = memory
        self._parts = list[Part[Tensor]]()
        self._at_rest = at_rest

    @property
    def usage(self) -> Usage:
        num_items = sum(len(part) for part in self._parts)
        return Usage(samples=num_items, num_bytes=4 * num_items, gradients=2 * num_items)

    def do_idle_work(self) -> bool:
        if self._at_rest is None:
            return False
        self._parts.append(self._at_rest)
        return True

    def learn_many(self, part: Part[Tensor]) -> None:
        self._parts = [*self._parts, part][-self._memory :]

    def predict_many(self, inputs: Tensor) -> Tensor:
        known: dict[float, int] = {}
        for part in self._parts:
            known |= zip(part.inputs.tolist(), part.labels_N.tolist(), strict=True)
        return torch.tensor([known.get(float(x), -1) for x in inputs])


def benchmark(num_stages: int = 3, size: int = 4) -> Benchmark[Tensor]:
    """Returns a benchmark in which item x has the class x // 2."""
    stages = []
    for number in range(num_stages):
        inputs = torch.arange(number * size, (number + 1) * size).float()
        part = Part(inputs, inputs.long() // 2)
        stages.append(Stage(f"stage {number}", part, part))
    classes = tuple(str(label) for label in range(num_stages * size // 2))
    return Benchmark("numbers", classes, tuple(stages))


def test_the_matrix_has_a_row_for_each_stage_and_shows_forgetting() -> None:
    reported: list[tuple[str, Row]] = []
    run = by_stage(benchmark(), LastClasses(memory=2), CHOICE, lambda name, row: reported.append((name, row)))
    assert run.matrix == ((100.0,), (100.0, 100.0), (0.0, 100.0, 100.0))
    assert [name for name, _ in reported] == ["stage 0", "stage 1", "stage 2"]
    assert run.row_before_idle == run.matrix[-1]
    assert (run.usage.num_bytes, run.num_items) == (32, 12)
    assert run.seconds > 0


def test_idle_work_changes_only_the_last_row_and_the_row_before_it_is_recorded() -> None:
    numbers = benchmark()
    contender = LastClasses(memory=1, at_rest=numbers.stages[0].train)
    run = by_stage(numbers, contender, CHOICE, lambda name, row: None)
    assert run.matrix == ((100.0,), (0.0, 100.0), (100.0, 0.0, 100.0))
    assert run.row_before_idle == (0.0, 0.0, 100.0)
    measured = run_outcome(run, contender.traits, data="numbers", split="test", strategy="last", seed=0, commit="none")
    assert (measured.forgetting_before_idle, measured.forgetting) == (100.0, 50.0)
    assert (measured.final_accuracy_before_idle, measured.final_accuracy) == (33.333, 66.667)
    assert (measured.buffer_samples, measured.gradients_per_item) == (8, 1.333)


def test_joint_training_sees_every_item_once_in_an_order_from_the_seed() -> None:
    run = all_at_once(benchmark(), LastClasses(memory=1), CHOICE, lambda name, row: None)
    assert run.matrix == ((100.0, 100.0, 100.0),)


def test_a_method_is_measured_by_stage_by_default() -> None:
    assert Method(lambda benchmark, choice: LastClasses(1)).measure is by_stage


@given(st.integers(0, 20))
def test_shuffling_moves_training_items_only_within_their_stage(seed: int) -> None:
    before = benchmark()
    after = shuffle_stages(before, seed)
    for old, new in zip(before.stages, after.stages, strict=True):
        assert sorted(new.train.inputs.tolist()) == old.train.inputs.tolist()
        assert torch.equal(new.train.inputs.long() // 2, new.train.labels_N)
        assert new.test is old.test
    assert all(
        torch.equal(a.train.inputs, b.train.inputs)
        for a, b in zip(after.stages, shuffle_stages(before, seed).stages, strict=True)
    )


@given(st.floats(0.05, 0.9), st.integers(0, 10))
def test_flipped_labels_are_wrong_and_about_the_given_share(share: float, seed: int) -> None:
    before = benchmark(num_stages=2, size=400)
    after = flip_labels(before, share, seed)
    old_N = torch.cat([stage.train.labels_N for stage in before.stages])
    new_N = torch.cat([stage.train.labels_N for stage in after.stages])
    assert abs(float((old_N != new_N).float().mean()) - share) < 0.1
    assert int(new_N.min()) >= 0 and int(new_N.max()) < len(before.classes)
    assert all(new.test is old.test for old, new in zip(before.stages, after.stages, strict=True))
