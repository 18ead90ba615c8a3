"""Commands that change the set of labels: checked, recorded in the audit log, and appended to the command log.

    an operator --checked against the known classes--> audit.v1 (asked) --> LabelCommand in the log --> the learner
    an added label --> the labels that were quarantined because it was missing are sent again

The check protects people from mistakes: a misspelt name would be a new class, and a rename to the name of another class
would be an unintended merge. The learner does not repeat the check: it carries out every command in the log.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import msgspec

from rollout.plans import NotPossible
from services.admin_log import AdminWriter
from services.refused import LabelFilter, quarantined_labels
from wire.bus import Bus
from wire.config import LabelConfig
from wire.errors import NotFound
from wire.kinds import class_names
from wire.label_set import NEW, NOT_LISTED, RETIRED, LabelSet, did_you_mean
from wire.records import Command, Feedback, LabelAction, LabelCommand
from wire.store import Store

TIMEOUT_S: Final = 30.0

REASONS: Final = (NEW, NOT_LISTED, RETIRED)
"""Reasons of labels in quarantine that a change of the set of labels removes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelEdit:
    """A change of `labels` that an operator requests. The fields are those of `LabelCommand`."""

    action: LabelAction
    labels: tuple[str, ...]
    to: tuple[str, ...] = ()
    forgets: bool = False


@dataclass(frozen=True, slots=True)
class ClassesInForce:
    """The requested set of labels, and the classes of the current version."""

    labels: LabelSet
    classes: tuple[str, ...]

    @classmethod
    def read(cls, store: Store, config: LabelConfig) -> "ClassesInForce":
        """Reads the commands and the current version. Raises WireError."""
        labels = LabelSet.of(config, store.labels.requested())
        current = store.versions.current()
        try:
            classes = store.versions.manifest(current).labels if current else ()
        except NotFound:
            # The version was withdrawn meanwhile.
            classes = ()
        return cls(labels, classes)

    def command(self, wish: LabelEdit, *, max_chars: int, source: str, now_ms: int) -> LabelCommand:
        """Returns the next command, with labels in their normal form. Raises NotPossible, with the fix."""
        normal = self.labels.config.normal_form
        labels = tuple(dict.fromkeys(map(normal, wish.labels)))
        to = tuple(dict.fromkeys(map(normal, wish.to)))
        for label in (*labels, *to):
            if not label.strip() or len(label) > max_chars:
                raise NotPossible(f"a label has 1 to {max_chars} characters; got {label!r}")
        kind = self.labels.kind
        if not kind.has_classes:
            raise NotPossible(f"labels.kind is {kind.name}: there are no classes that could be changed")
        if wish.forgets and not kind.is_exclusive:
            raise NotPossible(
                f"--forget removes texts by their class, but with labels.kind {kind.name} a text has several classes: "
                "split without --forget, or `lifelong labels retire` the class and `add` it again"
            )
        if wish.action == "add":
            self._check_new(labels)
        else:
            for label in labels:
                self._check_known(label)
        if wish.action in ("rename", "split"):
            self._check_free(to, wish.action)
        elif wish.action == "merge":
            self._check_merged(labels, to)
        return LabelCommand(
            number=self.labels.number + 1,
            action=wish.action,
            labels=labels,
            to=to,
            forgets=wish.forgets,
            source=source,
            time_ms=now_ms,
        )

    def is_new(self, name: str) -> bool:
        """Returns whether `name` can be added: it is neither a known class nor a retired one."""
        return name not in self._known and name not in self.labels.retired

    @property
    def _known(self) -> set[str]:
        return {*map(self.labels.name_of, self.classes), *self.labels.listed} - self.labels.retired

    def _check_new(self, labels: Sequence[str]) -> None:
        there = [label for label in labels if label in self._known]
        if there:
            raise NotPossible(f"{there[0]!r} is in the set already")

    def _check_known(self, label: str) -> None:
        meaning = self.labels.name_of(label)
        if meaning != label:
            raise NotPossible(f"{label!r} is called {meaning!r} now: use that name")
        if label in self.labels.retired:
            raise NotPossible(f"{label!r} was retired; `lifelong labels add` adds it again")
        if label not in self._known:
            raise NotPossible(f"no class is called {label!r}{did_you_mean(label, self._known)}")

    def _check_free(self, names: Sequence[str], action: str) -> None:
        taken = [name for name in names if name in self._known]
        if taken and action == "rename":
            raise NotPossible(f"{taken[0]!r} is a class already: `lifelong labels merge` makes one class of both")
        if taken:
            raise NotPossible(f"{taken[0]!r} is a class already: its labels are learnt as they arrive")

    def _check_merged(self, labels: Sequence[str], to: Sequence[str]) -> None:
        if len({*labels, *to}) < 2:
            raise NotPossible("name two classes or more, or another class with --into")
        for name in to:
            if self.labels.name_of(name) != name:
                self._check_known(name)


class LabelOperator:
    """Appends label commands to the log, with an audit record before and after each."""

    def __init__(self, store: Store, bus: Bus, audit: AdminWriter, *, config: LabelConfig, max_chars: int) -> None:
        self._store = store
        self._bus = bus
        self._audit = audit
        self._config = config
        self._max_chars = max_chars

    def request(self, wish: LabelEdit, *, source: str, now_ms: int) -> Command:
        """Requests the change; returns the command when it is on disk and in the audit log.

        `source` names the operator. Raises NotPossible, and WireError if the audit log cannot be written: then there
        is not a command.
        """
        in_force = ClassesInForce.read(self._store, self._config)
        body = in_force.command(wish, max_chars=self._max_chars, source=source, now_ms=now_ms)
        detail = json.dumps(msgspec.to_builtins(body), ensure_ascii=False)
        self._audit.write(f"labels {wish.action}", "asked", detail=detail, client=source)
        command = self._store.commands.append(body, source=source, time_ms=now_ms)
        self._audit.write(f"labels {wish.action}", "done", detail=f"command {command.seq}", client=source)
        return command

    def release(self, labels: Iterable[str]) -> int:
        """Sends the labels again that were quarantined because `labels` were not in the set; returns their number.

        The operator does not approve these labels: the learner judges them as if they arrived for the first time.
        """
        labels_in_force = LabelSet.of(self._config, self._store.labels.requested())
        names = {labels_in_force.name_of(label) for label in labels}
        num = 0

        def waiting() -> Iterator[Feedback]:
            nonlocal num
            for label in quarantined_labels(self._bus, LabelFilter()):
                named = {labels_in_force.name_of(name) for name in class_names(label.feedback.label_string)}
                if label.reason in REASONS and named & names:
                    num += 1
                    yield label.feedback

        with closing(self._bus.publisher()) as publisher:
            publisher.send_all(waiting(), TIMEOUT_S)
        return num


def waiting_labels(bus: Bus, in_force: ClassesInForce) -> dict[str, int]:
    """Returns how often each missing class is named by labels in quarantine, the most frequent class first."""
    labels = in_force.labels
    counts = Counter[str]()
    for quarantined in quarantined_labels(bus, LabelFilter(reason=NEW)):
        label = quarantined.feedback.label_string
        if labels.refusal(label, in_force.classes.__contains__) == NEW:
            counts.update(name for name in class_names(labels.name_of(label)) if in_force.is_new(name))
    return dict(counts.most_common())
