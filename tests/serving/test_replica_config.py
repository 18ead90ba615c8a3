"""What a replica is given of the settings: all of its tasks, and no key in what is shown."""

from pathlib import Path
from typing import Any

import pytest

from serving.config import ServingConfig
from serving.replica_config import ReplicaConfig, ReplicaSettings
from tests.stores import KEYS, SIGNING_KEY
from wire.config import BusConfig, TrustConfig


def test_a_service_without_further_tasks_has_the_default_one() -> None:
    config = ReplicaConfig.of(ReplicaSettings(), ring=KEYS, trust=TrustConfig())
    assert list(config.all_tasks) == [""]
    assert SIGNING_KEY.decode() not in repr(config)


def test_the_settings_of_a_task_are_those_of_the_default_one_but_for_its_own() -> None:
    settings = ReplicaSettings(encoder="folder", tasks={"urgency": {"serving": {"refusal": {"max_risk": 0.1}}}})
    of_task = settings.of_task("urgency")
    assert (of_task.encoder, of_task.serving.refusal.max_risk) == ("folder", 0.1)
    assert of_task.serving.http_port == settings.serving.http_port
    assert settings.serving.refusal.max_risk == 0.0


def test_sections_of_other_programs_are_left_to_them() -> None:
    settings = ReplicaSettings(tasks={"urgency": {"learner": {"trainable_layers": 2}, "rollout": {"ramp": [0.5]}}})
    assert settings.of_task("urgency").labels == settings.labels


def test_without_a_spool_there_is_one_that_is_of_this_service_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """B15: outside of `up`, a killed replica lost the answers by HTTP that Kafka did not have."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def spool(**bus: Any) -> str:
        settings = ReplicaSettings(bus=BusConfig(**bus))
        return ReplicaConfig.of(settings, ring=KEYS, trust=TrustConfig()).serving.spool_dir

    assert Path(spool()).parent == tmp_path / "lifelong"
    assert spool() == spool() != spool(prefix="another.")
    given = ReplicaSettings(serving=ServingConfig(spool_dir="/spool"))
    assert ReplicaConfig.of(given, ring=KEYS, trust=TrustConfig()).serving.spool_dir == "/spool"
