"""The options of one run of the demo, besides the settings. What reads data sets is imported when it is needed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from evals.streams.stream import Stream

Order: TypeAlias = Literal["auto", "desk", "stages"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoOptions:
    """The flags of `lifelong demo`. The number of replicas and the seed are settings."""

    data: str = "support"
    """`support`, `clinc150`, or a folder with train.jsonl and test.jsonl."""
    order: Order = "auto"
    """`desk`: classes arrive over time and keep coming, without a pause. `stages`: stage after stage, each with a test
    when it is learned. `auto`: `desk` for the carried data set, `stages` for others."""
    events: int | None = None
    """Most training events, spread evenly over the stages; None: all."""
    rate: float | None = None
    """Events a second; None: 200, or less where a stage would be over before its labels come back."""
    label_delay_s: tuple[float, float] = (1.0, 4.0)
    """Delay of a label after its answer, uniform between the two, so that labels overtake each other."""
    json: Path | None = None
    """File for the figures."""
    plot: Path | None = None
    """File for the plot, a PNG."""

    def __post_init__(self) -> None:
        low, high = self.label_delay_s
        if low < 0.0 or high < low:
            raise ValueError(f"label_delay_s is {self.label_delay_s}: give two seconds, the smaller one first")
        if self.rate is not None and self.rate <= 0.0:
            raise ValueError(f"rate is {self.rate}: give events a second, above 0")

    def stream(self, folder: Path | None, seed: int) -> "Stream":
        """Loads the stream in its order; `folder` has the data sets that are not carried. Raises DataError."""
        from evals.streams.arrivals import at_a_desk
        from evals.streams.data import SUPPORT, load

        stream = load(self.data, folder, num_events=self.events, seed=seed)
        is_desk = self.data == SUPPORT if self.order == "auto" else self.order == "desk"
        return at_a_desk(stream, seed) if is_desk else stream
