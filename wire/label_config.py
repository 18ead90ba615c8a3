"""The settings of the set of labels: what kind they are of, which may be learnt, and how they are written.

Rejected: one regular expression for what is allowed (nobody could be told which label was meant).
"""

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import MaxLen
from pydantic import BeforeValidator

from wire.sections import SECTION, require
from wire.targets import Kind

MAX_LABELS = 65_536
"""Most labels of the list: as many as a head may have classes."""

WhiteSpace = re.compile(r"\s+")


def _decoded(value: Any) -> Any:
    """Returns a list; in a variable of the environment it is JSON, or one word."""
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.lstrip().startswith("[") else [value] if value else []


Form: TypeAlias = Literal["nfc", "space", "case"]
Forms: TypeAlias = Annotated[tuple[Form, ...], BeforeValidator(_decoded)]
Labels: TypeAlias = Annotated[tuple[str, ...], MaxLen(MAX_LABELS), BeforeValidator(_decoded)]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelConfig:
    """The set of labels (docs/labels.md). All processes need the same values."""

    __pydantic_config__ = SECTION

    kind: Kind = "class"
    """What the label of an event is: one `class`, or a set of classes (`multilabel`, see docs/kinds.md). What was
    learnt under one kind is of no use under another."""
    mode: Literal["open", "listed", "ask"] = "open"
    """`open`: a label that nobody has used makes a class. `listed`: one that is not in `allow` is refused. `ask`: it
    lies in quarantine until `lifelong labels add`."""
    allow: Labels = ()
    """The labels of the list, besides those that `lifelong labels add` adds."""
    normalise: Forms = ("nfc", "space")
    """What makes two labels one: `nfc`, the composed form of Unicode; `space`, runs of blanks as one, and none at the
    ends; `case`, small letters."""

    def __post_init__(self) -> None:
        require(
            (
                self.mode == "listed" or self.mode == "ask" or not self.allow,
                "labels.allow is used under labels.mode listed or ask; the mode is open",
            ),
            (all(map(str.strip, self.allow)), "labels.allow must not have a blank label"),
        )

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
