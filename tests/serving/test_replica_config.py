"""What a replica is given of the settings: all of its tasks, and no key in what is shown."""

from serving.replica_config import ReplicaConfig, ReplicaSettings
from tests.stores import KEYS, SIGNING_KEY
from wire.config import TrustConfig


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
