"""What one run of the demo is asked for, besides the settings."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoOptions:
    """The flags of `lifelong demo`. The number of replicas and the seed are settings."""

    data: str = "support"
    """`support`, `clinc150`, or a folder with train.jsonl and test.jsonl."""
    events: int | None = None
    """Training events at most, spread evenly over the stages; None: all."""
    rate: float | None = None
    """Events a second; None: 200, or less where a stage would be over before its labels come back."""
    label_delay_s: tuple[float, float] = (1.0, 4.0)
    """A label comes back this long after its answer, drawn evenly between the two, so that labels overtake."""
    json: Path | None = None
    """File for the figures."""
    plot: Path | None = None
    """File for the picture, a PNG."""

    def __post_init__(self) -> None:
        low, high = self.label_delay_s
        if not 0.0 <= low <= high:
            raise ValueError(f"label_delay_s is {self.label_delay_s}: give two seconds, the smaller one first")
        if self.rate is not None and self.rate <= 0.0:
            raise ValueError(f"rate is {self.rate}: give events a second, above 0")
