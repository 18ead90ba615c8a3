"""The settings of the set of labels: what kind they are of, which may be learnt, and how they are written.

Rejected: one regular expression for what is allowed (nobody could be told which label was meant).
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, MaxLen
from pydantic import BeforeValidator

from wire.sections import SECTION, decoded, require
from wire.targets import Kind

MAX_LABELS = 65_536
"""Most labels of the list: as many as a head may have classes."""

Bound: TypeAlias = Annotated[float, Ge(-1e12), Le(1e12)]

UNIT_STEPS = 1 << 16
"""Steps of the range of a score."""

WhiteSpace = re.compile(r"\s+")


Form: TypeAlias = Literal["nfc", "space", "case"]
Forms: TypeAlias = Annotated[tuple[Form, ...], BeforeValidator(decoded)]
Labels: TypeAlias = Annotated[tuple[str, ...], MaxLen(MAX_LABELS), BeforeValidator(decoded)]
ClassWeight: TypeAlias = Annotated[float, Gt(0), Le(1_000_000)]
ClassWeights: TypeAlias = Annotated[Mapping[str, ClassWeight], MaxLen(MAX_LABELS), BeforeValidator(decoded)]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelConfig:
    """The set of labels (docs/labels.md). All processes need the same values."""

    __pydantic_config__ = SECTION

    kind: Kind = "class"
    """What the label of an event is: one `class`, a set of classes (`multilabel`), or a number (`score`), see
    docs/kinds.md. What was learnt under one kind is of no use under another."""
    low: Bound = 0.0
    """Lowest score: a lower one counts as this. Errors are measured as shares of the range."""
    high: Bound = 1.0
    """Highest score."""
    mode: Literal["open", "listed", "ask"] = "open"
    """`open`: a label that nobody has used makes a class. `listed`: one that is not in `allow` is refused. `ask`: it
    lies in quarantine until `lifelong labels add`."""
    allow: Labels = ()
    """The labels of the list, besides those that `lifelong labels add` adds."""
    normalise: Forms = ("nfc", "space")
    """What makes two labels one: `nfc`, the composed form of Unicode; `space`, runs of blanks as one, and none at the
    ends; `case`, small letters."""
    class_weights: ClassWeights = field(default_factory=dict)
    """How much more a right label of a class is worth than one of another class, which is 1, as `{"fraud": 100}`: such
    a class is named earlier, and counts so much more in the rollout (docs/labels.md#rare-classes)."""

    def __post_init__(self) -> None:
        require(
            (
                self.mode == "listed" or self.mode == "ask" or not self.allow,
                "labels.allow is used under labels.mode listed or ask; the mode is open",
            ),
            (self.low < self.high, "labels.low must be below labels.high"),
            (all(map(str.strip, self.allow)), "labels.allow must not have a blank label"),
            (
                self.kind == "class" or not self.class_weights,
                f"labels.class_weights is used under labels.kind class; the kind is {self.kind}",
            ),
        )

    @property
    def width(self) -> float:
        """The width of the range of scores."""
        return self.high - self.low

    def unit(self, value: float) -> float:
        """Returns the place of a score in its range, in [0, 1], to 16 bits.

        >>> LabelConfig(low=1.0, high=5.0).unit(4.5), LabelConfig(low=1.0, high=5.0).unit(9.0)
        (0.875, 1.0)
        """
        share = (value - self.low) / self.width
        return round(min(max(share, 0.0), 1.0) * UNIT_STEPS) / UNIT_STEPS

    def normal_form(self, label: str) -> str:
        """Returns a label as it is learnt.

        >>> LabelConfig().normal_form("  lost   card "), LabelConfig(normalise=("case",)).normal_form("Lost Card")
        ('lost card', 'lost card')
        """
        if "nfc" in self.normalise:
            label = unicodedata.normalize("NFC", label)
        if "case" in self.normalise:
            label = label.casefold()
        return WhiteSpace.sub(" ", label).strip() if "space" in self.normalise else label
