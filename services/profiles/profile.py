"""Defines the profiles: each fixes a model, its precision, the limits of serving, and the promises of the service.

    profile = "base" --fill_in_profile, unless set otherwise--> serving.*, serving.promises.* --> a replica checks them

A profile is frozen: its values change with a release, not with the machine. A setting from a file, the environment or
an option wins. `base` and `pro` are MiniLM, in INT4 and in its most accurate precision. The encoders of nano and static
are made at first use. After `lifelong search`, `nano` and `base` name points of its front
(`services.profiles.encoders`).

A running service can take over the encoder and the head of another profile without a restart (`lifelong model adopt`).
Settings are read at the start of a process: `after_restart` says which of them a restart would change.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from model.config import MINILM_L6, LayerSpec, Span, StaticConfig, StrataConfig
from services.settings import Loaded, Settings, values_by_name

Shape = TypeVar("Shape", StrataConfig, StaticConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile(Generic[Shape]):
    """A profile: a named set of values, for the model, its precision, the limits of serving and the promises."""

    name: str
    about: str
    config: Shape
    """The shape of the model for which the promises were made."""
    scheme: str
    """The scheme in which its matrices are stored and read: see `lifelong.compress.cost.matrix_bytes`."""
    settings: Mapping[str, object]
    """The settings that it fills in, by dotted name. The settings below `serving.promises` are its promises."""


def _nano_layer(index: int) -> LayerSpec:
    """Returns a layer with half of MiniLM's heads. It shares its matrices with the first layer of its group of three.

    Its heads attend to near keys, and to keys that a router chooses.
    """
    first = index - index % 3
    return LayerSpec(attention=first, ffn=first, heads=6, kv_heads=2, lora_rank=8, spans=((3, 0), (3, 1)))


NANO: Final = Profile(
    name="nano",
    about="small: two banks of matrices for six layers, half the heads, INT8; one core answers 30 requests a second",
    config=replace(
        MINILM_L6,
        embed_dim=96,
        spans=(
            Span(kind="local", window=64, sinks=4),
            Span(kind="topk", window=64, sinks=4, topk=4, dense_below=512),
        ),
        layers=tuple(map(_nano_layer, range(6))),
    ),
    scheme="w8c",
    settings=MappingProxyType(
        {
            "serving.threads": 1,
            "serving.precision.mode": "int8",
            "serving.promises.answers_per_s": 30.0,
            "serving.promises.model_mb": 11.3,
        }
    ),
)

BASE: Final = Profile(
    name="base",
    about="quick and right: INT4, 99 of 100 answers within 150 ms, 88 % of them right",
    config=MINILM_L6,
    scheme="w4g64",
    settings=MappingProxyType(
        {
            "serving.precision.mode": "int4",
            "serving.precision.max_accuracy_loss": 0.02,
            # Events that wait longer would only break the promise.
            "serving.max_queue_items": 256,
            "serving.promises.p99_ms": 150.0,
            "serving.promises.accuracy": 0.88,
        }
    ),
)

PRO: Final = Profile(
    name="pro",
    about="long texts: nothing shared or removed, INT8; 500 documents of 512 tokens a minute",
    config=MINILM_L6,
    scheme="w8c",
    settings=MappingProxyType(
        {
            "serving.max_tokens": 512,
            "serving.max_batch_tokens": 4_096,
            "serving.precision.mode": "int8",
            "serving.promises.tokens_per_s": round(500 * 512 / 60, 1),
        }
    ),
)

STATIC: Final = Profile(
    name="static",
    about="a table of vectors of tokens, distilled from MiniLM on your texts: no attention, and half of MiniLM's bytes",
    config=StaticConfig(),
    scheme="w8c",
    settings=MappingProxyType(
        {"serving.threads": 1, "serving.precision.mode": "int8", "serving.promises.model_mb": 12.0}
    ),
)

PROFILES: Final[Mapping[str, Profile[Any]]] = {profile.name: profile for profile in (NANO, BASE, PRO, STATIC)}

OF_TEXTS: Final = ("label_capacity", "head_features", "pairs")
"""The fields of a shape that depend on the labels, on a choice of the operator, or on the texts of a distillation."""


def changed_profile(settings: Settings, config: str) -> Profile[Any] | None:
    """Returns the profile whose model has this shape, with any head; None if it is the settings' own profile.

    `config` is the canonical JSON of an encoder's shape, "" for the encoder in use. It returns None, too, if the
    settings have no profile, since the user did not ask for one.
    """
    if not (config and settings.profile):
        return None
    shape = _shape(config)
    same = [profile for profile in PROFILES.values() if _shape(profile.config.canonical_json()) == shape]
    # Profiles may have the same encoder.
    return None if PROFILES[settings.profile] in same else next(iter(same), None)


def _shape(config: str) -> dict[str, object]:
    """Returns the fields of a canonical JSON that profiles fix."""
    return {name: value for name, value in json.loads(config).items() if name not in OF_TEXTS}


def after_restart(settings: Settings, profile: Profile[Any]) -> dict[str, tuple[object, object]]:
    """Returns the settings that a restart under `profile` would change: by dotted name, the present and the next value.

    None stands for a promise that is not made. A value that is neither the default nor the present profile's was set by
    the user, and stays.
    """
    now = values_by_name(settings)
    defaults = values_by_name(Settings())
    before = {**defaults, **PROFILES[settings.profile].settings} if settings.profile else defaults
    after = {**defaults, **profile.settings}
    changes: dict[str, tuple[object, object]] = {}
    for name in {**now, **before, **after}:
        value, was, then = (each.get(name) for each in (now, before, after))
        if name.startswith("serving.") and value == was != then and value != {} and then != {}:
            changes[name] = (value, then)
    return changes


def restart_lines(settings: Settings, profile: Profile[Any]) -> list[str]:
    """Returns the lines of text about `after_restart`, for a user who has changed only the encoder."""
    changes = after_restart(settings, profile)
    values = "; ".join(f"{name} {now} -> {then}" for name, (now, then) in changes.items())
    before = f"profile {settings.profile}" if settings.profile else "no profile"
    return [
        f"The encoder is now profile {profile.name}'s; settings and promises are still those of {before}.",
        f"A restart of the replicas with profile = {profile.name} changes {values or 'none of them'}.",
    ]


def fill_in_profile(loaded: Loaded) -> Loaded:
    """Returns the settings with the values of their profile, unless something else sets these values."""
    profile = PROFILES.get(loaded.settings.profile)
    return loaded.filled(f"follows profile {profile.name}", profile.settings) if profile else loaded
