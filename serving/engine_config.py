"""The settings of the model's thread: in which precision it answers, and what it promises.

Rejected: these in `serving/config.py`, which has the settings of everything else (it is as long as a file may be).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from wire.sections import SECTION, require


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecisionConfig:
    """The choice of a precision: the fastest that is as accurate as allowed."""

    __pydantic_config__ = SECTION

    mode: Literal["auto", "fp32", "int8", "int4"] = "auto"
    """`auto` chooses for every batch by the latencies measured on this machine. A named precision is kept as far as the
    accuracy allows it."""
    max_accuracy_loss: Annotated[float, Ge(0), Le(1)] = 0.005
    """Largest accuracy that a precision may have lost against the version's best and still answer."""
    min_gain: Annotated[float, Ge(0), Le(1)] = 0.1
    """Share of the time that a precision must save to be preferred to the best; half of it keeps it preferred."""
    brown_out_load: Annotated[float, Gt(0), Le(1)] = 0.5
    """Share of `serving.max_queue_items` beyond which a replica is overloaded, until half of that is gone. 1: never."""
    brown_out_accuracy_loss: Annotated[float, Ge(0), Le(1)] = 0.03
    """`max_accuracy_loss` of an overloaded replica: under `auto` it answers by the fastest before it refuses."""

    def __post_init__(self) -> None:
        require(
            (
                self.brown_out_accuracy_loss >= self.max_accuracy_loss,
                "serving.precision.brown_out_accuracy_loss must not be below serving.precision.max_accuracy_loss",
            ),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceLevelConfig:
    """What a replica promises, and checks while it runs (`serving.service_level`). 0: nothing."""

    __pydantic_config__ = SECTION

    p99_ms: Annotated[float, Ge(0), Le(3_600_000)] = 0.0
    """Time within which 99 of 100 texts are answered, from the queue on."""
    answers_per_s: Annotated[float, Ge(0), Le(1_000_000)] = 0.0
    """Texts that are answered in a second in which the model computes."""
    tokens_per_s: Annotated[float, Ge(0), Le(1_000_000_000)] = 0.0
    """Tokens of these texts."""
    accuracy: Annotated[float, Ge(0), Le(1)] = 0.0
    """Accuracy, on the holdout, of the version and the precision that answer."""
    model_mb: Annotated[float, Ge(0), Le(1_000_000)] = 0.0
    """Megabytes of the weights that answer, at most."""
