"""Small grey images of four shapes, as an event carries them: base64 of 28 x 28 bytes."""

import base64

import numpy as np

SIDE = 28
SHAPES = ("bar", "column", "cross", "box")


def make_shape(number: int) -> str:
    return SHAPES[number % len(SHAPES)]


def make_image(number: int) -> str:
    """Returns an image of `make_shape(number)`, at another place and with other noise for every number."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 60, (SIDE, SIDE))
    top, left = rng.integers(2, SIDE - 16, 2)
    rows = slice(top, top + 14)
    columns = slice(left, left + 14)
    shape = make_shape(number)
    if shape in ("bar", "cross"):
        pixels[top + 6 : top + 8, columns] += 180
    if shape in ("column", "cross"):
        pixels[rows, left + 6 : left + 8] += 180
    if shape == "box":
        pixels[rows, columns] += 180
        pixels[top + 2 : top + 12, left + 2 : left + 12] -= 180
    return base64.b64encode(np.clip(pixels, 0, 255).astype(np.uint8).tobytes()).decode()
