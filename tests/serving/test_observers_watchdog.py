"""When the model's thread hangs."""

import pytest

from serving.errors import Unhealthy
from serving.observers import Watchdog
from serving.queue import Batch, Item, ItemFailure, Unanswered
from wire.records import Event


class Clock:
    """A clock that is moved by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make_watchdog(clock: Clock) -> Watchdog:
    return Watchdog(clock)


def batch(num_tokens: int = 1) -> Batch[Item]:
    item = Item(event=Event(id="e", text="x"), token_ids=[0] * num_tokens, done=lambda outcome: None)
    return Batch([item], 0.0, [0.0])


def end(watchdog: Watchdog, clock: Clock, *, is_fault: bool) -> None:
    """Ends a batch, whose item the machine could not answer if it `is_fault`."""
    ended = batch()
    failure = ItemFailure(event=ended.items[0].event, reason="model_failed")
    watchdog.batch_ended(ended, {}, [Unanswered(item=ended.items[0]) if is_fault else failure], clock.now_s)


@pytest.mark.parametrize(("num_tokens", "allowed_s"), [(10, 5.0), (1_024, 5.0), (8_192, 40.0)])
def test_a_batch_of_more_tokens_may_take_longer(num_tokens: int, allowed_s: float) -> None:
    clock = Clock()
    watchdog = make_watchdog(clock)
    watchdog.batch_began(batch(num_tokens), {}, clock.now_s)
    clock.now_s = allowed_s
    watchdog.check(5.0)
    clock.now_s = allowed_s + 1.0
    with pytest.raises(Unhealthy, match=f"one batch has taken more than {allowed_s:g} s"):
        watchdog.check(5.0)
    end(watchdog, clock, is_fault=False)
    watchdog.check(5.0)


def test_faults_count_from_the_first_in_a_row() -> None:
    clock = Clock()
    watchdog = make_watchdog(clock)
    for clock.now_s in (10.0, 15.0):
        end(watchdog, clock, is_fault=True)
        watchdog.check(5.0)
    clock.now_s = 16.0
    end(watchdog, clock, is_fault=True)
    faults = [watchdog.has_fault]
    with pytest.raises(Unhealthy, match="failed for more than 5 s"):
        watchdog.check(5.0)
    end(watchdog, clock, is_fault=False)
    faults.append(watchdog.has_fault)
    assert faults == [True, False]
    watchdog.check(5.0)
