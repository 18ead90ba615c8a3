"""Weights after rank-k updates equal the solution of the sums, and are a function of base and batches, bit for bit."""

import random
from dataclasses import replace

import torch
from structlog.testing import capture_logs

from learner.encoder.served import ServedEncoder
from learner.fast.fast_head import MAX_ROWS, FastHead
from learner.fast.solver import ARITHMETIC, MAX_BATCHES, HeadSolver
from learner.rounds.worker import INLINE
from learner.samples import Labelled
from tests.learner.small_learner import labelled, small_served

SERVED = small_served()


def make_head(samples: list[Labelled]) -> FastHead:
    head = FastHead(SERVED, penalty=1e-4)
    learn(head, samples)
    return head


def learn(head: FastHead, samples: list[Labelled]) -> None:
    head.admit_all(sample.label for sample in samples)
    head.learn_many(samples)


def test_updates_lead_to_the_weights_of_the_sums() -> None:
    head = make_head(labelled(0, 60))
    solver = HeadSolver()
    solver.solve(head, {"feedback.v1/0": 60})
    for last in (61, 75, 90):
        learn(head, labelled(head.ridge.num_samples, last))
        weights_CR = solver.solve(head, {"feedback.v1/0": last})
        torch.testing.assert_close(weights_CR, head.solve(), rtol=1e-3, atol=1e-4)
    assert solver.solution.base == {"feedback.v1/0": 60} and solver.solution.arithmetic == ARITHMETIC
    assert [batch["feedback.v1/0"] for batch in solver.solution.batches] == [61, 75, 90]
    assert solver.rows.labels == [sample.label for sample in labelled(75, 90)]


def test_the_order_in_a_batch_and_rows_before_the_base_change_no_bit() -> None:
    samples = labelled(0, 90)
    heads = [make_head(samples[:50]), make_head(samples[:20])]
    solvers = [HeadSolver(), HeadSolver()]
    # This solver had another base before.
    solvers[1].solve(heads[1], {})
    shuffled = samples[20:50]
    random.Random(0).shuffle(shuffled)
    heads[1].learn_many(shuffled)
    for solver, head in zip(solvers, heads, strict=True):
        solver.solve(head, {"a": 50}, anew=True)
    for first, last in ((50, 70), (70, 90)):
        heads[0].learn_many(samples[first:last])
        backwards = samples[first:last][::-1]
        heads[1].learn_many(backwards[:7])
        heads[1].learn_many(backwards[7:])
        weights = [solver.solve(head, {"a": last}) for solver, head in zip(solvers, heads, strict=True)]
    assert torch.equal(*weights) and solvers[0].solution == solvers[1].solution


def test_the_sums_are_solved_if_updates_do_not_reach_them() -> None:
    head = make_head(labelled(0, 40))
    solver = HeadSolver()
    solver.solve(head, {"a": 1})
    head.unlearn_many(labelled(0, 5))
    assert torch.equal(solver.solve(head, {"a": 2}), head.solve())
    assert solver.solution.base == {"a": 2}
    learn(head, [labelled(7, 8)[0]] * (MAX_ROWS + 1))
    solver.solve(head, {"a": 3})
    assert solver.solution.base == {"a": 3}
    other = make_head(labelled(0, 10))
    assert torch.equal(solver.solve(other, {"a": 4}), other.solve())


def test_batches_are_bounded_and_nothing_learnt_is_no_batch() -> None:
    head = make_head(labelled(0, 40))
    solver = HeadSolver()
    solver.solve(head, {"a": 0})
    for number in range(MAX_BATCHES):
        learn(head, labelled(40 + number, 41 + number))
        solver.solve(head, {"a": 1 + number})
        solver.solve(head, {"a": 100 + number})
    assert len(solver.solution.batches) == MAX_BATCHES
    learn(head, labelled(80, 81))
    solver.solve(head, {"a": 999})
    assert solver.solution.base == {"a": 999} and not solver.solution.batches


def test_bases_solved_in_another_thread_lead_to_the_same_weights() -> None:
    """The next base is used one version later; then the batches since are learnt on it."""
    head = make_head(labelled(0, 40))
    solver = HeadSolver(INLINE)
    bases = set()
    for last in range(40, 760, 12):
        learn(head, labelled(last, last + 12))
        weights_CR = solver.solve(head, {"a": last})
        torch.testing.assert_close(weights_CR, head.solve(), rtol=1e-3, atol=1e-4)
        bases.add(solver.solution.base["a"])
        assert len(solver.solution.batches) <= MAX_BATCHES // 2 + 1
    assert len(bases) == 4

    again = make_head(labelled(0, solver.solution.base["a"] + 12))
    replayed = HeadSolver()
    replayed.solve(again, solver.solution.base)
    for offsets in solver.solution.batches:
        learn(again, labelled(offsets["a"], offsets["a"] + 12))
        last_CR = replayed.solve(again, offsets)
    assert torch.equal(last_CR, weights_CR) and replayed.solution == solver.solution


def test_a_head_that_knows_nothing_has_no_rows() -> None:
    assert HeadSolver().solve(FastHead(SERVED, penalty=1e-4), {}).shape == (0, 96)


def test_lost_rows_are_detected_and_repaired() -> None:
    """The updated weights then differ from the next base, which is solved from the exact sums."""
    head = make_head(labelled(0, 40))
    solver = HeadSolver(INLINE)
    solver.solve(head, {"a": 40})
    with capture_logs() as logs:
        learn(head, labelled(40, 90))
        head.log.take(SERVED.config.head_features)
        for last in range(90, 330, 12):
            learn(head, labelled(last, last + 12))
            weights_CR = solver.solve(head, {"a": last})
    assert [line["event"] for line in logs] == ["head_differs"]
    torch.testing.assert_close(weights_CR, head.solve(), rtol=1e-3, atol=1e-4)


def test_new_classes_without_a_row_in_the_base_need_a_new_base() -> None:
    roomy = ServedEncoder(replace(SERVED.config, label_capacity=600), SERVED.tokenizer, SERVED.tensors)
    head = FastHead(roomy, penalty=1e-4)
    solver = HeadSolver(INLINE)
    samples = [labelled(number, number + 1)[0]._replace(label=f"class {number}") for number in range(330)]
    bases = set()
    for first in range(0, 330, 30):
        learn(head, samples[first : first + 30])
        weights_CR = solver.solve(head, {"a": first})
        torch.testing.assert_close(weights_CR, head.solve(), rtol=1e-3, atol=1e-4)
        bases.add(solver.solution.base["a"])
    # Tables of 256 and of 320 rows were too small by then.
    assert {240, 300} <= bases
