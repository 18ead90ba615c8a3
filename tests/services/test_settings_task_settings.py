"""The settings of one task of a service, as its programs load them."""

import os
from pathlib import Path

import pytest

from services.settings import BadSettings, Loaded, as_environment, load, with_tasks

FILE = """
[labels]
mode = "ask"
[tasks.urgency.labels]
mode = "listed"
allow = ["low", "high"]
[tasks.queue.learner]
state_dir = "/srv/queue"
[tasks.queue.bus.map.feedback]
label = "{queue}"
[bus.map.feedback]
topic = "crm.resolutions"
event_id = "{ticket_id}"
label = "{team}"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lifelong.toml"
    path.write_text(FILE)
    return path


def loaded(file: Path, **flags: object) -> Loaded:
    return with_tasks(load(file=file, environ={"LIFELONG_STATE_DIR": str(file.parent)}, flags=flags))


def test_a_task_has_its_own_settings_and_folders(file: Path) -> None:
    default, urgency, queue = (loaded(file, task=task) for task in ("", "urgency", "queue"))
    assert [each.settings.labels.mode for each in (default, urgency, queue)] == ["ask", "listed", "ask"]
    assert default.settings.learner.state_dir == f"{file.parent}/learner"
    assert urgency.settings.learner.state_dir == f"{file.parent}/learner-urgency"
    assert queue.settings.learner.state_dir == "/srv/queue"
    assert urgency.origins["labels.mode"] == f"{file} tasks.urgency.labels.mode"


def test_labels_of_others_are_mapped_for_each_task(file: Path) -> None:
    maps = [loaded(file, task=task).settings.bus.map.feedback for task in ("", "queue")]
    assert [(each.label, each.task) for each in maps] == [("{team}", ""), ("{queue}", "queue")]


def test_tasks_share_an_encoder_unless_somebody_says_that_it_is_trained(file: Path) -> None:
    assert loaded(file).settings.learner.deepest_layers == 0
    assert loaded(file, **{"learner.trainable_layers": 2}).settings.learner.deepest_layers == 2
    alone = with_tasks(load(file=Path(os.devnull), environ={}))
    assert alone.settings.learner.trainable_layers == 2
    assert "learner.trainable_layers" not in alone.origins


def test_a_program_of_a_task_loads_what_its_parent_has(file: Path) -> None:
    environ = as_environment(loaded(file).settings)
    child = with_tasks(load(file=Path(os.devnull), environ={**environ, "LIFELONG_TASK": "urgency"}))
    assert child.settings.labels.allow == ("low", "high")
    assert child.settings.learner == loaded(file, task="urgency").settings.learner


def test_the_weights_of_classes_are_of_the_task_that_has_them(file: Path) -> None:
    flags = {"labels.class_weights.fraud": 9.0, "tasks.urgency.labels.class_weights.high": 3.0}
    environ = as_environment(loaded(file, **flags).settings)
    for task, weights in (("", {"fraud": 9.0}), ("urgency", {"high": 3.0}), ("queue", {})):
        child = with_tasks(load(file=Path(os.devnull), environ={**environ, "LIFELONG_TASK": task}))
        assert child.settings.labels.class_weights == weights
    mapped = {"tasks.queue.bus.map.feedback.label": "", "tasks.queue.bus.map.feedback.labels": "{tags}"}
    sets = flags | mapped | {"tasks.queue.labels.kind": "multilabel"}
    assert loaded(file, **sets).settings.labels.kind == "class"


def test_what_does_not_suit_the_kind_of_labels_of_a_task_is_refused(file: Path) -> None:
    flags = {"tasks.urgency.labels.kind": "multilabel", "serving.refusal.min_score": 0.2}
    with pytest.raises(BadSettings, match=r"tasks\.urgency: serving\.refusal is for labels of one class"):
        loaded(file, **flags)


def test_a_task_that_there_is_not_is_a_mistake_that_names_those_there_are(file: Path) -> None:
    with pytest.raises(BadSettings, match=r"there is no task 'urgncy'\. Did you mean 'urgency'"):
        loaded(file, task="urgncy")


@pytest.mark.parametrize("task", ["", "queue"])
def test_a_map_of_labels_of_another_kind_than_its_task_is_refused(file: Path, task: str) -> None:
    """A task without its own message map gets no labels through the default task's map, and may be of any kind."""
    loaded(file, **{"tasks.urgency.labels.kind": "multilabel"})
    flags = {f"tasks.{task}.labels.kind" if task else "labels.kind": "score"}
    with pytest.raises(BadSettings, match=r"feedback.label makes no label of labels.kind score") as caught:
        loaded(file, **flags)
    assert "map bus.map.feedback.value instead" in str(caught.value)
    assert f"tasks.{task}: " in str(caught.value) or not task
