"""The state of a seeded random generator as text: its integers have 128 bits, which no binary record takes."""

import json

import numpy as np


def dice_state(dice: np.random.Generator) -> str:
    """Everything that `dice_from` needs to go on as `dice` would.

    >>> dice = np.random.default_rng(3)
    >>> int(dice_from(dice_state(dice)).integers(1000)) == int(dice.integers(1000))
    True
    """
    return json.dumps(dice.bit_generator.state)


def dice_from(state: str) -> np.random.Generator:
    dice = np.random.default_rng()
    dice.bit_generator.state = json.loads(state)
    return dice
