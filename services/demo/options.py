"""The command-line options of the demo. The code that reads data sets is imported only when it is needed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

if TYPE_CHECKING:
    from evals.streams.stream import Stream

Order: TypeAlias = Literal["auto", "desk", "stages"]
ProfileName: TypeAlias = Literal["nano", "base"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoOptions:
    """The flags of `lifelong demo`. The number of replicas and the seed are settings."""

    data: Annotated[
        str, typer.Option("--data", metavar="NAME|PATH", help="support, clinc150, digits, or a folder of lines of JSON")
    ] = "support"
    order: Annotated[
        Order,
        typer.Option("--order", metavar="desk|stages", help="Classes appear one by one and stay, or stage after stage"),
    ] = "auto"
    """`desk`: classes appear over time and stay, without a pause. `stages`: classes come stage after stage, with a test
    after each stage. `auto`: `desk` for the included data set and for digits, `stages` for other data sets."""
    events: Annotated[int | None, typer.Option("--events", min=1, help="Events to learn from [default: all]")] = None
    rate: Annotated[float | None, typer.Option("--rate", min=0.1, help="Events a second")] = None
    """None: 200, or less if a stage would be over before its labels come back."""
    label_delay_s: tuple[float, float] = (1.0, 4.0)
    """Delay of a label after its answer, uniform between the two values, so that labels overtake each other."""
    profile: Annotated[
        ProfileName | None,
        typer.Option("--profile", metavar="nano|base", help="Profile to run; the first use makes its encoder"),
    ] = None
    change_to: Annotated[
        ProfileName | None,
        typer.Option("--change-to", metavar="nano|base", help="Profile to change to during the run, under load"),
    ] = None
    pretrain: Annotated[
        bool,
        typer.Option("--pretrain", help="Move to another domain, and pretrain the encoder on its unlabelled texts"),
    ] = False
    stay: Annotated[bool, typer.Option("--stay", help="Stay up after the run, to look at the page")] = False
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures to FILE")] = None
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw accuracy over time to FILE (PNG)")
    ] = None

    def __post_init__(self) -> None:
        low, high = self.label_delay_s
        if low < 0.0 or high < low:
            raise ValueError(f"label_delay_s is {self.label_delay_s}: give two seconds, the smaller one first")
        if self.rate is not None and self.rate <= 0.0:
            raise ValueError(f"rate is {self.rate}: give events a second, above 0")
        if self.pretrain and (self.change_to is not None or self.order == "desk" or self.data == "digits"):
            raise ValueError(
                "--pretrain plays two domains of texts in stages: leave out --change-to, --data digits and --order desk"
            )

    def stream(self, folder: Path | None, seed: int) -> "Stream":
        """Loads the stream in its order; `folder` has the data sets that are not included. Raises DataError."""
        from evals.streams.arrivals import recurring
        from evals.streams.data import DIGITS, SUPPORT, load

        stream = load(self.data, folder, num_events=self.events, seed=seed)
        if self.pretrain:
            from services.demo.second_domain import two_domains

            return two_domains(stream, folder, seed)
        is_desk = self.data in (SUPPORT, DIGITS) if self.order == "auto" else self.order == "desk"
        return recurring(stream, seed) if is_desk else stream
