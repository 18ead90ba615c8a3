"""The flags of the longer commands of `lifelong model`, as records that `reads_settings` fills."""

from dataclasses import dataclass, field
from typing import Annotated

import typer

Texts = Annotated[
    list[str],
    typer.Option("--texts", metavar="NAME|PATH", help="Data set, folder of lines, or .txt; may be repeated"),
]
MaxTexts = Annotated[int, typer.Option("--max-texts", min=1, help="Texts that are looked at")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Draws the texts")]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertFlags:
    """What `convert` changes; 0 and none change nothing."""

    kv_heads: Annotated[int, typer.Option("--kv-heads", min=0, help="Heads of keys and values in each layer")] = 0
    embed_dim: Annotated[int, typer.Option("--embed-dim", min=0, help="Width of the token embedding")] = 0
    positions: Annotated[
        int, typer.Option("--positions", min=0, help="Tokens of the longest text: learned positions are repeated")
    ] = 0
    span: Annotated[
        list[str],
        typer.Option("--span", metavar="KIND,NAME=N..", help="As local,window=64,sinks=4 or topk,topk=8"),
    ] = field(default_factory=list)
    enough: Annotated[float, typer.Option("--enough", min=0, max=1, help="Attention that a span must leave")] = 0.95
    texts: Texts = field(default_factory=list)
    max_texts: MaxTexts = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneFlags:
    """How many heads go, and which tasks say which."""

    share: Annotated[float, typer.Option("--share", min=0, max=1, help="Share of all heads that go")] = 0.4
    task: Annotated[
        list[str],
        typer.Option("--task", metavar="NAME|PATH", help="Data set, or folder of lines with labels; may be repeated"),
    ] = field(default_factory=list)
    max_texts: MaxTexts = 1_000
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class AdoptFlags:
    """What the service gets besides the encoder, and how long to wait for the learner."""

    features: Annotated[
        int,
        typer.Option("--features", min=0, help="Random features of the head [default: as before]", show_default=False),
    ] = 0
    capacity: Annotated[
        int, typer.Option("--capacity", min=0, help="Most classes [default: as before]", show_default=False)
    ] = 0
    max_loss: Annotated[
        float | None,
        typer.Option("--max-loss", min=0, max=1, help="Accuracy that may be lost [default: as any version]"),
    ] = None
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the decision")] = True
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="For how long")] = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillFlags:
    """Whom to learn from, on what, how long and how fast."""

    teacher: Annotated[str, typer.Option("--teacher", metavar="ENCODER", help="Encoder to learn from")] = "minilm-l6"
    texts: Texts = field(default_factory=list)
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of training")] = 3_000
    batch: Annotated[int, typer.Option("--batch", min=1, help="Texts of a step")] = 32
    rate: Annotated[float, typer.Option("--rate", min=0, help="Learning rate, which falls to 0")] = 5e-4
    rounded: Annotated[bool, typer.Option("--rounded", help="Train through the rounding of the kernels")] = False
    every: Annotated[float, typer.Option("--every", min=0, help="Seconds between two checkpoints")] = 60
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the processor")] = 1
    seed: Seed = 0
