"""Parts of events from files and arrays."""

from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest

from lifelong.media import MediaError
from lifelong.media.parts import media_parts
from lifelong.media.pixels import pixels
from lifelong.plugins.inputs.media import AUDIO, IMAGE
from tests.lifelong.media.files import png, tone, wav


def test_files_and_their_paths_make_the_same_valid_parts(tmp_path: Path) -> None:
    picture, sound = png(np.zeros((28, 28), np.uint8)), wav(tone(440, 0.1))
    (tmp_path / "a.png").write_bytes(picture)
    (tmp_path / "a.wav").write_bytes(sound)
    made = media_parts(picture, sound)
    assert media_parts(tmp_path / "a.png", str(tmp_path / "a.wav")) == made
    assert (IMAGE.problem(made[0]), AUDIO.problem(made[1])) == ("", "")
    assert media_parts(None, None) == ()


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3)])
def test_an_array_of_pixels_is_a_picture(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    (part,) = media_parts(array, None)
    found = pixels(b64decode(part["data"]), part["media_type"])
    assert np.array_equal(found, pixels(png(array), "image/png"))


@pytest.mark.parametrize("array", [np.zeros((28, 28)), np.zeros((28, 28, 4), np.uint8)])
def test_another_array_is_refused(array: np.ndarray) -> None:
    with pytest.raises(MediaError, match=r"expected uint8 \[height, width\]"):
        media_parts(array, None)
