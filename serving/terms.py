"""The terms on which an event is answered: who still waits for it, how urgent it is, which version is asked, for what.

An event on the default terms is answered by the version that the plan chooses, in the order of its arrival.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec


class Priority(Enum):
    """How many seconds earlier than it has come an event counts as having come.

    So an urgent event overtakes those that wait already, and each event is overtaken only by those that come within
    two seconds after it: none waits for ever.
    """

    HIGH = 1.0
    NORMAL = 0.0
    LOW = -1.0


def always() -> bool:
    """Returns True: the default of `Terms.is_wanted`, for events that nobody gives up on."""
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """Once `is_wanted` returns False, nobody waits for the answer, and it is not computed.

    `version` answers whatever the plan says (0: the plan says who does). With `is_embedding`, the text's vector is
    asked for, and no answer.
    """

    is_wanted: Callable[[], bool] = always
    priority: Priority = Priority.NORMAL
    version: int = 0
    is_embedding: bool = False

    @property
    def wish(self) -> tuple[int, bool]:
        """What is asked for: equal for events that can be answered together."""
        return self.version, self.is_embedding


DEFAULT: Final = Terms()


class EmbeddedText(msgspec.Struct, frozen=True, kw_only=True):
    """The vector of one text: `z` is a unit vector, float32, little-endian.

    `encoding` names weights, length limit and arithmetic, as `TextVector` has it ("": they have no name): vectors of
    equal names may be compared.
    """

    z: bytes
    weights_version: int
    arm: str
    precision: str
    encoding: str
    num_tokens: int
