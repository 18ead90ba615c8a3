"""Two faults at once."""

from dataclasses import dataclass, field

from bench.chaos.faults import Lasting, Together


@dataclass(slots=True)
class Noted(Lasting):
    """A fault that notes what is done to it."""

    name: str
    lasts_s: float
    num_kills: int = 0
    done: list[str] = field(default_factory=list)

    def inject(self) -> str:
        self.done.append("inject")
        return f"{self.name} began"

    def heal(self) -> None:
        self.done.append("heal")


def test_both_begin_and_end_and_the_longer_one_lasts() -> None:
    one, other = Noted("cut", 2.0), Noted("kill", 5.0, num_kills=1)
    both = Together((one, other))
    assert both.inject() == "cut began, kill began"
    both.heal()
    assert (both.name, both.lasts_s, both.num_kills) == ("cut and kill", 5.0, 1)
    assert one.done == other.done == ["inject", "heal"]
    assert both.is_over()
