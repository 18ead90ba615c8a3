"""Commands about labels: checked, recorded in the audit, and put into the log of commands.

    an operator --checked against what is known--> audit.v1 (asked) --> LabelCommand in the log --> the learner
    what became of it, with the first version that knows it         --> what lies in quarantine for it

The check is for people: a misspelt name would be a new class, and a rename to the name of another class would be a
merge that nobody meant. What is requested is followed whatever it says.
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
"""Why a label that is added may lie in quarantine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What an operator wants to be done to `labels`, as `LabelCommand` says it."""

    action: LabelAction
    labels: tuple[str, ...]
    to: tuple[str, ...] = ()
    forgets: bool = False


@dataclass(frozen=True, slots=True)
class ClassesInForce:
    """The set of labels as it is asked for, and the classes of the current version."""

    labels: LabelSet
    classes: tuple[str, ...]

    @classmethod
    def read(cls, store: Store, config: LabelConfig) -> "ClassesInForce":
        """Reads the commands and the current version. Raises WireError."""
        labels = LabelSet.of(config, store.labels.requested())
        current = store.versions.current()
        try:
            classes = store.versions.manifest(current).labels if current else ()
        except NotFound:  # it was withdrawn meanwhile
            classes = ()
        return cls(labels, classes)

    def command(self, wish: Wish, *, max_chars: int, source: str, now_ms: int) -> LabelCommand:
        """Returns the next command, by the normal forms of its labels. Raises NotPossible, which says what to mend."""
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
                f"--forget takes out texts by their class, and labels.kind is {kind.name}, where they have others, "
                "too: split without it, or `lifelong labels retire` the class and `add` it again"
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
        """Whether a class of this name waits to be added."""
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
            raise NotPossible(f"{label!r} is called {meaning!r} now: say that")
        if label in self.labels.retired:
            raise NotPossible(f"{label!r} was retired; `lifelong labels add` takes it back")
        if label not in self._known:
            raise NotPossible(f"no class is called {label!r}{did_you_mean(label, self._known)}")

    def _check_free(self, names: Sequence[str], action: str) -> None:
        taken = [name for name in names if name in self._known]
        if taken and action == "rename":
            raise NotPossible(f"{taken[0]!r} is a class already: `lifelong labels merge` makes one of both")
        if taken:
            raise NotPossible(f"{taken[0]!r} is a class already: its labels are learnt as they come")

    def _check_merged(self, labels: Sequence[str], to: Sequence[str]) -> None:
        if len({*labels, *to}) < 2:
            raise NotPossible("name two classes or more, or another one with --into")
        for name in to:
            if self.labels.name_of(name) != name:
                self._check_known(name)


class LabelOperator:
    """Requests commands about labels, each recorded before and after. `source` says who asks, for the command."""

    def __init__(self, store: Store, bus: Bus, audit: AdminWriter, *, config: LabelConfig, max_chars: int) -> None:
        self._store = store
        self._bus = bus
        self._audit = audit
        self._config = config
        self._max_chars = max_chars

    def request(self, wish: Wish, *, source: str, now_ms: int) -> Command:
        """Asks for what is wished; returns the command when it is on disk and in the audit.

        Raises NotPossible, and WireError where it cannot be recorded: then it is not requested.
        """
        known = ClassesInForce.read(self._store, self._config)
        body = known.command(wish, max_chars=self._max_chars, source=source, now_ms=now_ms)
        detail = json.dumps(msgspec.to_builtins(body), ensure_ascii=False)
        self._audit.write(f"labels {wish.action}", "asked", detail=detail, client=source)
        command = self._store.commands.append(body, source=source, time_ms=now_ms)
        self._audit.write(f"labels {wish.action}", "done", detail=f"command {command.seq}", client=source)
        return command

    def release(self, labels: Iterable[str]) -> int:
        """Sends again what lies in quarantine because these labels were not in the set; returns how many there were.

        Nobody vouches for these labels: they are judged as if they came for the first time.
        """
        known = LabelSet.of(self._config, self._store.labels.requested())
        names = {known.name_of(label) for label in labels}
        num = 0

        def waiting() -> Iterator[Feedback]:
            nonlocal num
            for label in quarantined_labels(self._bus, LabelFilter()):
                said = {known.name_of(name) for name in class_names(label.feedback.said)}
                if label.reason in REASONS and said & names:
                    num += 1
                    yield label.feedback

        with closing(self._bus.publisher()) as publisher:
            publisher.send_all(waiting(), TIMEOUT_S)
        return num


def waiting_labels(bus: Bus, known: ClassesInForce) -> dict[str, int]:
    """Returns the labels that lie in quarantine until they are added, those of most labels first."""
    labels = known.labels
    found = Counter[str]()
    for each in quarantined_labels(bus, LabelFilter(reason=NEW)):
        label = each.feedback.said
        if labels.refusal(label, known.classes.__contains__) == NEW:
            found.update(name for name in class_names(labels.name_of(label)) if known.is_new(name))
    return dict(found.most_common())
