from collections import Counter

import torch

from evals.continual.gradient import RowBatch, RowMemory


def rows(first: int, last: int) -> RowBatch:
    """Returns rows in which every value is the number of the row."""
    numbers = torch.arange(first, last)
    return RowBatch(numbers.to(torch.float32)[:, None].repeat(1, 3), numbers % 4, numbers.to(torch.float32)[:, None])


def test_drawn_rows_are_rows_that_were_added() -> None:
    memory = RowMemory(10, seed=0, policy="class-balanced")
    for first in range(0, 100, 7):
        memory.add(rows(first, first + 7), experience=0)
        drawn = memory.draw(50)
        assert drawn is not None and drawn.x.shape == (50, 3)
        numbers = drawn.x[:, 0].long()
        assert int(numbers.max()) < first + 7
        assert torch.equal(drawn.labels_B, numbers % 4) and torch.equal(drawn.logits_BC[:, 0].long(), numbers)


def test_the_capacity_is_in_rows_and_their_bytes_are_counted() -> None:
    memory = RowMemory(10, seed=0, policy="reservoir")
    memory.add(rows(0, 40), experience=0)
    assert (len(memory), memory.num_bytes) == (10, 10 * (3 * 4 + 8 + 4))
    drawn = memory.draw(2_000)
    assert drawn is not None and len(Counter(drawn.x[:, 0].tolist())) == 10


def test_experiences_get_equal_parts_of_the_memory() -> None:
    memory = RowMemory(12, seed=0, policy="experience-balanced")
    for experience in range(3):
        memory.add(rows(100 * experience, 100 * experience + 100), experience=experience)
    drawn = memory.draw(3_000)
    assert drawn is not None
    stored = {int(number) for number in drawn.x[:, 0]}
    assert Counter(number // 100 for number in stored) == {0: 4, 1: 4, 2: 4}


def test_an_empty_memory_draws_nothing() -> None:
    memory = RowMemory(4, seed=0, policy="reservoir")
    assert memory.draw(3) is None and memory.num_bytes == 0
    memory.add(rows(0, 3), experience=0)
    assert memory.draw(0) is None
