"""Tests the options of a run."""

import pytest

from services.demo.options import DemoOptions, Order


@pytest.mark.parametrize("rate", [0.0, -1.0])
def test_a_rate_must_be_above_nothing(rate: float) -> None:
    with pytest.raises(ValueError, match=f"rate is {rate}: give events a second, above 0"):
        DemoOptions(rate=rate)


@pytest.mark.parametrize("delay", [(2.0, 1.0), (-1.0, 1.0)])
def test_delays_must_be_a_range(delay: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="give two seconds, the smaller one first"):
        DemoOptions(label_delay_s=delay)


@pytest.mark.parametrize(("order", "is_desk"), [("auto", True), ("desk", True), ("stages", False)])
def test_the_carried_stream_comes_as_at_a_desk_unless_stages_are_wanted(order: Order, is_desk: bool) -> None:
    stream = DemoOptions(order=order).stream(None, 0)
    assert bool(stream.arrivals) is is_desk
    assert stream.num_events == sum(len(stage.train) for stage in stream.stages)


def test_fewer_events_are_fewer_arrivals() -> None:
    stream = DemoOptions(events=100).stream(None, 0)
    assert (len(stream.arrivals), {stage for _, stage in stream.arrivals}) == (100, set(range(8)))


@pytest.mark.parametrize("options", [{"change_to": "nano"}, {"order": "desk"}, {"data": "digits"}])
def test_what_two_domains_cannot_have_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="--pretrain"):
        DemoOptions(pretrain=True, **options)  # type: ignore[arg-type]
