"""The load of the parts of a planned service, from the costs of one machine."""

from bench.scale import Costs, Day, ScaleSize, load_limits, parts

COSTS = Costs(operations_per_s=838e9, answer_s=40e-6, label_s=100e-6, publication_s=0.01, answer_bytes=1_000)


def test_replicas_are_busy_with_the_operations_of_their_texts() -> None:
    replicas = next(part for part in parts(ScaleSize(), COSTS) if part.name == "replicas")
    assert 0.0230 < replicas.event_s < 0.0240
    assert replicas.servers == 81


def test_every_replica_fetches_every_version_independently_of_the_load() -> None:
    lines = [
        next(part for part in parts(ScaleSize(replicas=num, publish_interval_s=s), COSTS) if part.name == "redis_line")
        for num, s in ((81, 1.0), (162, 1.0), (81, 0.5))
    ]
    assert lines[1].share == lines[2].share == 2 * lines[0].share


def test_a_learner_that_costs_more_falls_behind_first() -> None:
    slow = Costs(operations_per_s=838e9, answer_s=1e-3, label_s=1e-3, publication_s=0.01, answer_bytes=1_000)
    size = ScaleSize()
    found = load_limits(parts(size, slow), Day(events=size.events, labels=size.labels, peak=size.peak))
    assert next(iter(found)) == "learner"
    assert found["learner"] < 1
