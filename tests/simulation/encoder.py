"""The encoder of the simulation: a module of a user, as small as can be. Texts are digits; nothing is trained."""

import torch
from torch import Tensor, nn

WIDTH = 10


class Digits(nn.Module):
    """The vector of a text says how often it has each digit."""

    width = WIDTH
    max_inputs = 16
    examples: tuple[str, ...] = ("0", "123", "99")

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.eye(WIDTH), requires_grad=False)

    def read(self, text: str) -> list[int]:
        """Returns the digits of a text; 0 stands for none, so that features alone can be learnt. Raises ValueError."""
        if text and not (text.isascii() and text.isdigit()):
            raise ValueError(f"{text[:20]!r} has other characters than digits")
        return list(map(int, text or "0"))

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Returns a vector for each text."""
        counts = torch.stack([torch.bincount(digits, minlength=WIDTH) / len(digits) for digits in inputs])
        return counts @ self.scale
