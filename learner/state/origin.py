"""The origin of a state: the encoder and settings that it belongs to, and what becomes of it under other settings.

    Origin in the checkpoint, Origin of the settings --compare--> nothing | the sums are made anew | StateRefused

The sums are sums of features, so another encoder, seed or number of features makes them worthless. The memory holds
texts, which mean the same under all of these. So the sums are made anew from the memory, as after a slow round. What
the memory has dropped is lost, and the log says how much. More rows cost nothing, and fewer rows are refused only where
the classes do not fit.

Rejected: refusing every change (the operator could only throw the state away), and keeping the states of several
settings side by side (a change is rarely undone).
"""

from dataclasses import dataclass, field

import msgspec

from learner.errors import StateRefused


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """`encoder` is the digest of all weights below the trained blocks. 0 and "": an older program did not write it."""

    encoder: str
    seed: int
    num_features: int
    trainable_layers: int
    label_capacity: int = 0
    max_tokens: int = 0
    tokenizer: str = ""


class Adopted(msgspec.Struct, frozen=True, kw_only=True):
    """An encoder that an operator has put in place of that of the settings, by the offer `offer`, as `name`.

    `key` is the digest of its `config` and weights, which are in a file of that name. The head has `num_features` and
    `label_capacity`. `max_loss` is what the operator was ready to lose of the accuracy. `instead_of` identifies what
    the settings were then (`BaseEncoder.identity`).
    """

    offer: str
    name: str
    key: str
    config: str
    num_features: int
    label_capacity: int
    max_loss: float | None = None
    instead_of: str


SETTINGS = {
    "seed": "learner.seed",
    "num_features": "learner.num_features",
    "trainable_layers": "learner.trainable_layers or a deeper tier",
    "label_capacity": "learner.label_capacity",
    "max_tokens": "serving.max_tokens",
    "tokenizer": "encoder (its tokenizer)",
}
"""The names of the settings as an operator writes them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OriginDiff:
    """What is different: the old and the new value, by setting. `is_rebuilt`: the sums are made anew."""

    settings: dict[str, str] = field(default_factory=dict)
    is_same_encoder: bool = True
    is_rebuilt: bool = False

    def __bool__(self) -> bool:
        return bool(self.settings)


def compare(old: Origin, new: Origin, *, is_same_encoder: bool, num_classes: int) -> OriginDiff:
    """Returns what is different for a state of `old` that knows `num_classes` under the settings of `new`.

    Trained blocks are kept, whether or not they are trained further. So `trainable_layers` of `new` is not less than
    that of `old` where the encoder is the same. Raises StateRefused where there are fewer rows than classes.
    """
    if num_classes > new.label_capacity:
        raise StateRefused(
            f"learner.label_capacity is {new.label_capacity}, but {num_classes} classes are known (it was "
            f"{old.label_capacity or 'more'}): set it to {num_classes} or more, or move the files of learner.state_dir "
            "elsewhere to begin from nothing"
        )
    values = {name: (getattr(old, name), getattr(new, name)) for name in SETTINGS}
    differing = {name for name, (before, after) in values.items() if before and before != after}
    if old.seed != new.seed:
        differing.add("seed")
    if old.trainable_layers != new.trainable_layers:
        differing.add("trainable_layers")
    settings = {SETTINGS[name]: f"{values[name][0]} -> {values[name][1]}" for name in sorted(differing)}
    if not is_same_encoder:
        settings["encoder"] = f"{old.encoder[:12]} -> {new.encoder[:12]}"
    return OriginDiff(
        settings=settings,
        is_same_encoder=is_same_encoder,
        is_rebuilt=not is_same_encoder or bool(differing - {"label_capacity"}),
    )
