"""Summarizes races for people: every encoder on every workload, and its settings."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table

from bench.peers.race import Contestant, Race


def summary(races: Sequence[Race]) -> Group:
    """Makes a table of milliseconds a batch and mean cosines to full precision, and one of the settings used."""
    shown = Table(title="ms a batch, and mean cosine to full precision", title_justify="left")
    shown.add_column("encoder", no_wrap=True)
    for race in races:
        shown.add_column(race.workload.name, justify="right")
    names: dict[str, None] = {}
    for race in races:
        names |= dict.fromkeys(entry.name for entry in (race.ours, *race.peers))
    for name in names:
        shown.add_row(name, *(_cell(_entry(race, name)) for race in races))
    settings = Table(title="how each was fastest", title_justify="left", show_header=False)
    settings.add_column(no_wrap=True)
    settings.add_column()
    for name in names:
        workloads: dict[str, list[str]] = {}
        for race in races:
            if entry := _entry(race, name):
                workloads.setdefault(entry.how, []).append(race.workload.name)
        settings.add_row(name, "; ".join(f"{how} ({', '.join(names)})" for how, names in workloads.items()))
    return Group(shown, settings)


def _entry(race: Race, name: str) -> Contestant | None:
    return next((entry for entry in (race.ours, *race.peers) if entry.name == name), None)


def _cell(entry: Contestant | None) -> str:
    return "broke" if entry is None else f"{entry.ms:.3g}  {entry.cosine:.4f}"
