"""`lifelong rebuild`: reproduces a published version from the topics."""

import dataclasses
import json
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.context import CliContext, JsonOption, reads_settings

if TYPE_CHECKING:
    from services.rebuild import Rebuilt

DIFFERS = 1
"""Exit code where the reproduced version differs."""


@reads_settings
def rebuild(
    context: CliContext,
    version: Annotated[int | None, typer.Argument(metavar="VERSION", min=1, help="By default the current one")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make VERSION again from the topics and its lineage, and compare every bit. Exits with 1 where they differ.

    Needs the settings of the learner that published it, the topics from their start, and a processor of the same kind.
    """
    import torch
    from rich.console import Console

    from learner.learner import Learner
    from model.minilm import load_encoder
    from services.keys import key_bytes
    from services.rebuild import rebuild_version
    from services.stack import open_store
    from wire.bus import Bus
    from wire.receipts import Receipts

    settings = context.attached()
    torch.set_num_threads(settings.learner.threads)  # sums over several threads differ in their last bits
    with closing(open_store(settings)) as store:
        manifest = store.versions.manifest(store.versions.current() if version is None else version)
    encoder = load_encoder(settings.encoder, max_tokens=manifest.max_tokens or settings.serving.max_tokens)
    learner = Learner(settings.learner, *encoder, receipts=Receipts(key_bytes(settings)))
    with closing(Bus(settings.bus, client_id="rebuild")) as bus, Console(stderr=True).status("") as status:
        result = rebuild_version(manifest, learner, settings.learner, bus, say=status.update)
    print(json.dumps(dataclasses.asdict(result), indent=2) if as_json else _summary(result))
    if result.differing:
        raise typer.Exit(DIFFERS)


def _summary(result: "Rebuilt") -> str:
    origin = f"Version {result.version}, from {result.records} records and {result.rounds} slow rounds"
    if not result.differing:
        return f"{origin}: all {result.tensors} tensors are the same, bit for bit."
    return f"{origin}: {len(result.differing)} of {result.tensors} tensors differ: {', '.join(result.differing)}"
