"""The encoders of profiles, made from the default one at first use, and kept.

    minilm-l6 --narrow embedding, grouped keys, two banks, half of the heads (`lifelong.compress`)--> NANO's shape
              --distilled from minilm-l6 through the rounding of the kernels--> a folder in the cache

The heads that go are those that matter least to the carried task once the layers are tied, the same in all layers of a
bank: the gradient of a gate on each is that of the shared head.

`base` is the default encoder: its weights have INT4 inside, and slow rounds train through its rounding. A kill costs
the last minute of the distillation, which goes on at the next use. What is made is a function of the recipe alone,
which names the folder.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from learner.errors import DataError
from lifelong.compress.distillation import DistillOptions
from lifelong.compress.heads import LabelledTexts, head_importance, prune, select
from lifelong.compress.reshape import factorise_embedding, pool_kv_heads
from lifelong.compress.share import share
from model.strata import Strata, rebuilt, state_of
from services.members.change import TeacherOptions, distil
from services.members.source import Say, labelled, open_source, write
from services.profiles.profile import BASE, NANO, Profile

TEACHER: Final = "minilm-l6"

TEXTS: Final = ("support",)
"""The carried data set: its texts; its labels choose the heads, and nothing else."""

STEPS: Final = 800
"""Steps of 32 texts: as many as row E2 of the ledger takes. Some five minutes on two idle cores."""

BANKS: Final = (0, 0, 0, 3, 3, 3)
"""The layer whose matrices each layer of NANO uses."""

KV_HEADS: Final = 4
"""Heads of keys and values while heads are chosen: with them go the heads of queries that read them."""

PRUNED: Final = 0.5
"""Share of the heads that are removed."""

MAX_TEXTS: Final = 1_000
"""Labelled texts on which heads are compared."""


def encoder_of(profile: Profile, *, data: Path | None, say: Say, cache: Path | None = None, seed: int = 0) -> str:
    """Returns the name of the profile's encoder, which is made first if it is not there.

    `cache` is the folder of such encoders, by default that of the user. `seed` draws the order of the distillation, and
    has an encoder of its own. Raises DataError for a profile without one.
    """
    if profile is BASE:
        return TEACHER
    if profile is not NANO:
        raise DataError(f"profile {profile.name} has no encoder of its own: set `encoder` to the folder of one")
    recipe = f"{NANO.config.canonical_json()} {TEACHER} {TEXTS} {STEPS} {PRUNED} {seed}"
    folder = cache or Path(os.getenv("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lifelong" / "encoders"
    out = folder / f"{profile.name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    shaped = out.with_name(f"{out.name}.shape")
    if out.exists():
        return str(out)
    if not shaped.exists():
        say("giving the encoder the shape of the profile")
        source = open_source(TEACHER)
        tasks = labelled(TEXTS, data, source.tokenizer, max_texts=MAX_TEXTS, seed=0)
        write(source, to_nano(source.strata, tasks), shaped, "profile", {"name": profile.name})
    lesson = TeacherOptions(teacher=TEACHER, texts=TEXTS, threads=os.cpu_count() or 1)
    distil(str(shaped), out, lesson, DistillOptions(steps=STEPS, rounded=True, seed=seed), data=data, say=say)
    return str(out)


def to_nano(strata: Strata, tasks: Sequence[LabelledTexts]) -> Strata:
    """Returns an encoder of NANO's shape, made of MiniLM without training. It has to be trained to be of use."""
    config = NANO.config
    narrow = pool_kv_heads(factorise_embedding(strata, config.embed_dim), KV_HEADS)
    tied = share(narrow, BANKS, BANKS, rank=config.layer(0).lora_rank)
    kept = select(tied, head_importance(tied, tasks), PRUNED)
    return rebuilt(config, state_of(prune(tied, kept)))
