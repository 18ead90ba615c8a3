"""An encoder of grey images of 28 x 28 pixels, whose bytes an event carries as base64. See docs/own-model.md."""

import base64
from typing import cast

import torch
from torch import Tensor, nn

SIDE = 28


class GreyImages(nn.Module):
    """Two convolutions and a linear layer; slow rounds train all of it."""

    width = 64
    max_inputs = SIDE * SIDE
    examples = tuple(base64.b64encode(bytes([shade]) * SIDE * SIDE).decode() for shade in (0, 85, 170, 255))

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * (SIDE // 4) ** 2, self.width),
        )

    def read(self, text: str) -> list[int]:
        """Returns the pixels of an image. Raises ValueError."""
        pixels = base64.b64decode(text, validate=True)
        if len(pixels) != self.max_inputs:
            raise ValueError(f"an image has {self.max_inputs} bytes, but these are {len(pixels)}")
        return list(pixels)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Returns a vector for each image."""
        images = torch.stack(inputs).view(-1, 1, SIDE, SIDE).float() / 255
        return cast(Tensor, self.layers(images))
