"""The results of `lifelong tune`, stored in the state folder by machine.

    tune --write--> STATE_DIR/tune.json --read--> doctor
                                        --fill_in_layout--> replicas and threads, unless a source sets them

A table from another processor, number of cores or release of Lifelong is ignored.
"""

import importlib.metadata
import platform
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from services.cores import num_cores
from services.settings import TUNE_FILE, Loaded
from services.tune.measure import MeasuredLayout, best
from wire.files import atomic_write


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Returns the name of the processor, for example `AMD EPYC 9R14 (family 25, model 17)`.

    The name alone does not tell the generation: a hypervisor may call Zen 4 and Zen 5 both `AMD EPYC`.
    """
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    fields: dict[str, str] = dict(re.findall(r"^([^:\n]+?)\s*: (.+)$", text, re.MULTILINE))
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    if not {"cpu family", "model"} <= fields.keys():
        return fields["model name"]
    return f"{fields['model name']} (family {fields['cpu family']}, model {fields['model']})"


def machine() -> str:
    """Returns the key of the table, for example `2 x AMD EPYC 9R14 (family 25, model 17), lifelong 0.1.0`."""
    return f"{num_cores()} x {processor()}, lifelong {importlib.metadata.version('lifelong')}"


def read(folder: Path) -> list[MeasuredLayout]:
    """Returns the measured layouts of this machine; empty if there are none, or if they cannot be read."""
    return _tables(folder).get(machine(), []) if (folder / TUNE_FILE).exists() else []


def fill_in_layout(loaded: Loaded) -> Loaded:
    """Returns the settings with the best numbers of replicas and threads.

    If a source sets one of the two numbers, the other is the best for it.
    """
    serving = loaded.settings.serving
    names = [name for name in ("replicas", "threads") if f"serving.{name}" in loaded.origins]
    winner = best(read(loaded.settings.state_dir), **{name: getattr(serving, name) for name in names})
    if winner is None:
        return loaded
    layout = {"serving.replicas": winner.layout.replicas, "serving.threads": winner.layout.threads}
    return loaded.filled("follows lifelong tune", layout)


def write(table: Sequence[MeasuredLayout], folder: Path) -> None:
    """Stores the measured layouts of this machine, and keeps those of other machines that use the folder."""
    content = msgspec.json.format(msgspec.json.encode(_tables(folder) | {machine(): list(table)}))
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / TUNE_FILE) as file:
        file.write(content)


def _tables(folder: Path) -> dict[str, list[MeasuredLayout]]:
    try:
        return msgspec.json.decode((folder / TUNE_FILE).read_bytes(), type=dict[str, list[MeasuredLayout]])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
