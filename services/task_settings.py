"""The settings that follow from the tasks of a service, where nothing sets them, and what each task must agree on.

Loaded --with_tasks--> Loaded, whose learner keeps the encoder that tasks share, and writes where no other one does
                   --> BadSettings, where the map of foreign labels makes labels of another kind than its task has
"""

from dataclasses import replace
from typing import Any

from pydantic_core import ErrorDetails

from services.settings import BadSettings, Loaded, Settings
from services.settings_docs import mistake

TRAINED = ("learner.trainable_layers", "learner.domain_layers", "learner.base_layers")
"""The settings of what slow rounds train of the encoder. Blocks that one task trains are computed for it alone, at
each event."""

PLACES = ("state_dir", "checkpoint_url")
"""The settings of the learner that name what only one learner writes to."""


def with_tasks(loaded: Loaded) -> Loaded:
    """Returns the settings of a service with several tasks; those of a service with one are as they were.

    Raises BadSettings where a map does not fit its task.
    """
    if problems := _misfits(loaded.settings):
        rules = [ErrorDetails(type="value_error", loc=(), msg=f"Value error, {each}", input=None) for each in problems]
        raise BadSettings(*(mistake(Settings, rule, loaded.origins) for rule in rules))
    task = loaded.settings.task
    if loaded.settings.tasks and not any(name in loaded.origins for name in TRAINED):
        loaded = loaded.filled("follows tasks", dict.fromkeys(TRAINED, 0))
    if not task:
        return loaded
    learner = loaded.settings.learner
    places = {name: f"{place.rstrip('/')}-{task}" for name in PLACES if (place := getattr(learner, name))}
    own: dict[str, Any] = {}
    for name, place in places.items():
        if f"tasks.{task}.learner.{name}" not in loaded.origins:
            own[name] = place
    settings = loaded.settings.model_copy(update={"learner": replace(learner, **own)})
    return loaded._replace(settings=settings)


def _misfits(settings: Settings) -> list[str]:
    """Returns what is wrong where the map of a task makes labels of another kind than the task has."""
    problems = [settings.bus.map.feedback.misfit(settings.labels, settings.task)]
    for task in settings.tasks.keys() - {settings.task}:
        own = settings.of_task(task)
        if problem := own.bus.map.feedback.misfit(own.labels, task):
            problems.append(f"tasks.{task}: {problem}")
    return [*filter(None, problems)]
