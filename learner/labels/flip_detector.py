"""Contradictions that pile up in one place: somebody says the labels of one class wrongly, or says one class too often.

    answered p, said s --> charts of s: which answers are contradicted by it  --.
                       --> charts of p: by which labels it is contradicted    --+-- both raised: p -> s
                       --> charts of the source: as what it contradicts       ----- raised: source says s

A single contradiction is what learning lives on; labels that are wrong here and there do little harm (networks resist
spread noise but not concentrated noise). A model that confuses p and s looks like one half of a flip: its errors on s
raise the first chart where s changed its look, or the second where p is not heard of any more. A flip of p's labels to
s raises both, since it also takes the right labels away from p.

A class is charted once it was said KNOWN times: before, every label of it is a contradiction. And a source is compared
with the other sources, so that one alone is not.

While an alarm lasts, the labels that are part of it are held, but still seen here: so it ends when its cause does. A
true change of that kind (what was p is s from now on) looks the same; an operator tells the two apart.
"""

import msgspec

from learner.labels.cusum import Charts, ChartsState

KNOWN = 50
"""Labels of a class from which on it is charted."""


class FlipsState(msgspec.Struct, frozen=True, kw_only=True):
    """The charts: of classes said, of classes answered, of sources."""

    said: ChartsState = ChartsState()
    answered: ChartsState = ChartsState()
    sources: ChartsState = ChartsState()
    num_raised: int = 0


class FlipDetector:
    """Watches pairs of classes, and sources."""

    def __init__(self, state: FlipsState | None = None) -> None:
        state = state or FlipsState()
        self._said = Charts(state.said)
        self._answered = Charts(state.answered)
        self._sources = Charts(state.sources)
        self.num_raised = state.num_raised

    def is_part(self, source: str, *, answered: str, said: str) -> bool:
        """Takes a label in; whether it is part of what is raised. `num_raised` counts alarms that begin."""
        is_known = self._said.num_trials(said) >= KNOWN
        is_wrong = answered != said
        before = self._is_raised(source, answered, said)
        self._said.add(said, answered if is_wrong else None, is_charted=is_known)
        self._answered.add(answered, said if is_wrong else None, is_charted=is_known)
        self._sources.add(source, said if is_wrong else None, is_charted=is_known)
        after = self._is_raised(source, answered, said)
        if after and not before:
            self.num_raised += 1
        return is_wrong and after

    def alarms(self) -> list[str]:
        """What is raised, in words."""
        pairs = [(p, s) for s, p in self._said.raised() if self._answered.is_raised(p, s)]
        return [f"{p!r} is said to be {s!r}" for p, s in pairs] + [
            f"source {source!r} says {s!r}" for source, s in self._sources.raised()
        ]

    def export(self) -> FlipsState:
        return FlipsState(
            said=self._said.export(),
            answered=self._answered.export(),
            sources=self._sources.export(),
            num_raised=self.num_raised,
        )

    def _is_raised(self, source: str, answered: str, said: str) -> bool:
        is_flipped = self._said.is_raised(said, answered) and self._answered.is_raised(answered, said)
        return is_flipped or self._sources.is_raised(source, said)
