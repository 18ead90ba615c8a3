"""Adds reference pages to the site, generated from the code. A hook of MkDocs (`mkdocs.yml`).

    settings, commands, metrics, exit codes, the public package --pages--> Markdown in reference/

The pages are built with the site and are not in the repository, so that they always match the code.

Rejected: mkdocs-gen-files (a plugin for a job that takes one line in a hook).
"""

import inspect
from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from services.cli import program
from services.commands.exits import codes
from services.settings import Settings
from services.settings_docs import MAIN, describe_setting, schemas
from wire.metrics import EVERY, LEARNER, REPLICA, ROLLOUT


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages. MkDocs calls it when it has found the other pages."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def pages() -> dict[str, str]:
    """Returns the Markdown of every page by its path."""
    made = {
        "settings": ("Settings", SETTINGS, _settings(is_main=True)),
        "settings-advanced": ("Advanced settings", ADVANCED_SETTINGS, _settings(is_main=False)),
        "commands": ("Commands", COMMANDS, _commands()),
        "metrics": ("Metrics", METRICS, _metrics()),
        "exit-codes": ("Exit codes", EXIT_CODES, _exit_codes()),
        "package": ("The package lifelong", "", iter(["::: lifelong\n"])),
    }
    pages: dict[str, str] = {}
    for name, (title, intro, lines) in made.items():
        parts = [f"# {title}\n"]
        if intro:
            parts.append(f"{intro}\n")
        parts.extend(lines)
        pages[f"reference/{name}.md"] = "\n".join(parts)
    return pages


SETTINGS = (
    "The settings that you need to run a service. The environment (`LIFELONG_SERVING__REPLICAS=2`) overrides a TOML "
    "file, and flags (`--set serving.replicas=2`) override the environment. `lifelong config show` prints a file with "
    "these settings and with all settings that are set. `lifelong config check` finds mistakes. All other settings are "
    "[advanced](settings-advanced.md)."
)
ADVANCED_SETTINGS = (
    "Change these settings only for a reason: every published figure was measured with their defaults. "
    "`lifelong config show --all` prints them together with [the other settings](settings.md)."
)
COMMANDS = "`lifelong COMMAND --help` prints the same texts. Every command that reads has `--json`."
METRICS = (
    "Every process serves its metrics at `/metrics` if `metrics.port` is set. The name of a released metric never "
    "changes, and every label has a bounded set of values."
)
EXIT_CODES = "An error is one message on standard error and one of these exit codes. A traceback is a bug."


def _settings(*, is_main: bool) -> Iterator[str]:
    section = None
    for name in schemas(Settings):
        if (name in MAIN) is not is_main:
            continue
        here = name.rpartition(".")[0]
        if here != section:
            yield f"\n## {here or 'Of all'}\n\n| setting | meaning, type, range and default |\n|---|---|"
            section = here
        yield _row(f"`{name}`", describe_setting(Settings, name))


def _commands() -> Iterator[str]:
    def walk(command: Any, name: str) -> Iterator[str]:
        if hasattr(command, "commands"):
            for part in command.commands.values():
                yield from walk(part, f"{name} {part.name}")
            return
        yield f"\n## {name}\n\n{inspect.cleandoc(command.help or '')}\n\n| parameter | meaning |\n|---|---|"
        for parameter in command.params:
            shown = ", ".join(parameter.opts) if parameter.opts[0].startswith("-") else str(parameter.name).upper()
            yield _row(f"`{shown}`", getattr(parameter, "help", None) or "")

    yield from walk(typer.main.get_command(program()), "lifelong")


def _metrics() -> Iterator[str]:
    for process, metrics in (
        ("Every process", EVERY),
        ("Replica", REPLICA),
        ("Learner", LEARNER),
        ("Rollout", ROLLOUT),
    ):
        yield f"\n## {process}\n\n| metric | kind | labels | meaning |\n|---|---|---|---|"
        for metric in metrics:
            yield _row(f"`{metric.name}`", metric.kind, ", ".join(metric.labels), metric.help)


def _exit_codes() -> Iterator[str]:
    yield "| code | meaning |\n|---|---|\n| 0 | done |\n| 1 | done, and the answer is no: see the command |"
    yield "| 2 | wrong usage |\n| 75 | something did not answer: try again |\n| 78 | wrong settings or set-up |\n"
    yield "| error | code | meaning |\n|---|---|---|"
    for kind, code in sorted(codes().items(), key=lambda item: (item[1], item[0].__name__)):
        yield _row(f"`{kind.__name__}`", str(code), (kind.__doc__ or "").partition("\n")[0])


def _row(*cells: str) -> str:
    shown = [" ".join(cell.split()).replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(shown)} |"
