"""Finds the encoders of profiles: a trained point of a search's front, the default encoder, or one made at first use.

    the front of `lifelong search` --the profile's point, if it was trained--> its folder

    minilm-l6 --narrow embedding, grouped keys, two banks, half of the heads (`lifelong.compress`)--> NANO's shape
              --distilled from minilm-l6 through the rounding of the kernels--> a folder in the cache

The heads that matter least to the carried task, once the layers are tied, are removed. All layers of a bank lose the
same heads, since a gate's gradient is the gradient of the shared head.

    minilm-l6 --its vectors of tokens, and of the carried texts (`lifelong.compress.static`)--> a folder in the cache

`base` and `pro` are the default encoder. Its weights have INT4 inside, and slow rounds train through its rounding.
`pro` stays this encoder until a larger one is given. A kill costs the last minute of the distillation of `nano`, which
continues at the next use. The result depends only on the recipe, which names the folder.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from learner.errors import DataError
from lifelong.compress.distillation import DistillOptions
from lifelong.compress.heads import LabelledTexts, head_importance, prune, select
from lifelong.compress.reshape import factorise_embedding, pool_kv_heads
from lifelong.compress.search import Point
from lifelong.compress.share import share
from lifelong.compress.static import StaticOptions
from model.strata import Strata, rebuilt, state_of
from services.members.change import TeacherOptions, distil
from services.members.search import Front, Trained
from services.members.source import Say, labelled, open_source, write
from services.members.train import train_static
from services.profiles.profile import BASE, NANO, STATIC, Profile

TEACHER: Final = "minilm-l6"

TEXTS: Final = ("support",)
"""The carried data set. Its texts train the encoder; its labels only choose the heads."""

STEPS: Final = 800
"""Steps of 32 texts, as many as in row E2 of the ledger: about five minutes on two idle cores."""

BANKS: Final = (0, 0, 0, 3, 3, 3)
"""The layer whose matrices each layer of NANO uses."""

KV_HEADS: Final = 4
"""Key-value heads while heads are chosen. A removed one takes the query heads that read it with it."""

PRUNED: Final = 0.5
"""Share of the heads that are removed."""

MAX_TEXTS: Final = 1_000
"""Labelled texts on which heads are compared."""


def named_points(front: Front) -> dict[str, Point]:
    """Returns the points of a search's front that the profiles name: those with the highest score.

    Nano's point also keeps its promise of a size, if any point does. `pro` is the source itself.
    """
    best = {BASE.name: max(front.points, key=lambda point: point.score)}
    limit_mb = cast("float", NANO.settings["serving.promises.model_mb"])
    small = [point for point in front.points if point.megabytes <= limit_mb]
    return best | ({NANO.name: max(small, key=lambda point: point.score)} if small else {})


def choose_point(front: Front, name: str) -> Point:
    """Returns the point of a front that a profile names, or the point with the number `name`. Raises DataError."""
    named = named_points(front)
    if name in named:
        return named[name]
    if name.isdecimal() and int(name) < len(front.points):
        return front.points[int(name)]
    known = ", ".join(named)
    raise DataError(f"the front has no point {name}; it has {known}, and 0 to {len(front.points) - 1}")


def trained_as(profile: Profile[Any], front: Front | None) -> Trained | None:
    """Returns the trained encoder of the point that a profile names; None if there is none."""
    point = named_points(front).get(profile.name) if front is not None else None
    return front.trained_as(point.genes) if front is not None and point is not None else None


def build_encoder(
    profile: Profile[Any],
    *,
    data: Path | None,
    say: Say,
    front: Front | None = None,
    cache: Path | None = None,
    seed: int = 0,
) -> str:
    """Returns the name of the profile's encoder, and first makes nano's or static's if it is not cached.

    It is the profile's point of the `front` of a search, if that point was trained. `cache` is the folder of encoders
    that are made here, by default the user's. `seed` draws the order of the distillation; each seed has its own
    encoder.
    """
    if (trained := trained_as(profile, front)) is not None:
        return trained.folder
    folder = cache or Path(os.getenv("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lifelong" / "encoders"
    if profile is STATIC:
        return train_static(TEACHER, TEXTS, StaticOptions(seed=seed), data=data, folder=folder, say=say).folder
    if profile is not NANO:
        return TEACHER
    recipe = f"{NANO.config.canonical_json()} {TEACHER} {TEXTS} {STEPS} {PRUNED} {seed}"
    out = folder / f"{profile.name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    shaped = out.with_name(f"{out.name}.shape")
    if out.exists():
        return str(out)
    if not shaped.exists():
        say("changing the encoder to the shape of the profile")
        source = open_source(TEACHER)
        tasks = labelled(TEXTS, data, source.tokenizer, max_texts=MAX_TEXTS, seed=0)
        write(source, to_nano(source.strata, tasks), shaped, "profile", {"name": profile.name})
    lesson = TeacherOptions(teacher=TEACHER, texts=TEXTS, threads=os.cpu_count() or 1)
    distil(str(shaped), out, lesson, DistillOptions(steps=STEPS, rounded=True, seed=seed), data=data, say=say)
    return str(out)


def to_nano(strata: Strata, tasks: Sequence[LabelledTexts]) -> Strata:
    """Returns an encoder of NANO's shape, made from MiniLM without training. It is useful only after training."""
    config = NANO.config
    narrow = pool_kv_heads(factorise_embedding(strata, config.embed_dim), KV_HEADS)
    tied = share(narrow, BANKS, BANKS, rank=config.layer(0).lora_rank)
    kept = select(tied, head_importance(tied, tasks), PRUNED)
    return rebuilt(config, state_of(prune(tied, kept)))
