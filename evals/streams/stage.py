"""Defines a stage: what is taught at one time, and what is tested of it from then on. It loads no torch."""

from dataclasses import dataclass
from typing import Generic, TypeVar

Items = TypeVar("Items")


@dataclass(frozen=True, slots=True)
class Stage(Generic[Items]):
    """Training and test items of the same classes, as a `Part` (benchmark.py) or as `StreamItem`s (stream.py)."""

    name: str
    train: Items
    test: Items
