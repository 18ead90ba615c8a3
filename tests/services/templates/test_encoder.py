"""The class of the template reads images, refuses other texts, and makes vectors of what it reads."""

import base64

import pytest
import torch

from lifelong.plugins.encoders.module_code import import_encoder
from services.templates.encoder import GreyImages
from tests.flow.images import make_image


def test_it_is_an_encoder() -> None:
    config = import_encoder("services.templates.encoder:GreyImages").config
    assert (config.d_model, config.max_inputs) == (64, 784)


def test_images_become_vectors() -> None:
    encoder = GreyImages().eval()
    z_BD = encoder([torch.tensor(encoder.read(make_image(number))) for number in range(3)])
    assert z_BD.shape == (3, 64) and not torch.equal(z_BD[0], z_BD[1])


@pytest.mark.parametrize("text", ["", "no image!", base64.b64encode(b"abc").decode()])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"an image has 784 bytes|base64|characters"):
        GreyImages().read(text)
