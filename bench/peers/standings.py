"""A race's whole field for people: every encoder on every work, and how each was set."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table

from bench.peers.race import Contestant, Race


def standings(races: Sequence[Race]) -> Group:
    """Milliseconds a batch with the mean cosine to full precision; below, the settings that were fastest."""
    shown = Table(title="ms a batch, and mean cosine to full precision", title_justify="left")
    shown.add_column("encoder", no_wrap=True)
    for race in races:
        shown.add_column(race.work.name, justify="right")
    names = dict.fromkeys(entry.name for race in races for entry in (race.ours, *race.peers))
    for name in names:
        shown.add_row(name, *(_cell(_entry(race, name)) for race in races))
    settings = Table(title="how each was fastest", title_justify="left", show_header=False)
    settings.add_column(no_wrap=True)
    settings.add_column()
    for name in names:
        works: dict[str, list[str]] = {}
        for race in races:
            if entry := _entry(race, name):
                works.setdefault(entry.how, []).append(race.work.name)
        settings.add_row(name, "; ".join(f"{how} ({', '.join(names)})" for how, names in works.items()))
    return Group(shown, settings)


def _entry(race: Race, name: str) -> Contestant | None:
    return next((entry for entry in (race.ours, *race.peers) if entry.name == name), None)


def _cell(entry: Contestant | None) -> str:
    return "broke" if entry is None else f"{entry.ms:.3g}  {entry.cosine:.4f}"
