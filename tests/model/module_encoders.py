"""Encoders of users, for tests: small modules that read the codes of letters, and classes that are no encoders."""

import torch
from torch import Tensor, nn
from torch.nn import functional

PATH = "tests.model.module_encoders"


def import_path(found: type) -> str:
    """Returns the import path of one of these classes."""
    return f"{PATH}:{found.__name__}"


class Letters(nn.Module):
    """Reads texts of at most 40 small letters; its first layer is frozen."""

    width = 16
    max_inputs = 40
    examples: tuple[str, ...] = ("abc", "zebra", "lifelong")

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(26, 24).requires_grad_(requires_grad=False)
        self.norm = nn.BatchNorm1d(24)
        self.out = nn.Linear(24, self.width)

    def read(self, text: str) -> list[int]:
        if not (text.isascii() and text.isalpha() and text.islower()):
            raise ValueError(f"{text[:20]!r} has other characters than small letters")
        return [ord(letter) - ord("a") for letter in text]

    def forward(self, inputs: list[Tensor]) -> Tensor:
        means = torch.stack([self.embed(letters).mean(dim=0) for letters in inputs])
        z_BD: Tensor = self.out(functional.relu(self.norm(means)))
        return z_BD


class LettersInInt8(Letters):
    """The same encoder, also in INT8."""

    int8 = True


class Narrow(Letters):
    """Declares another width than it has."""

    width = 8

    def forward(self, inputs: list[Tensor]) -> Tensor:
        return torch.zeros(len(inputs), 9)


class Wide(Letters):
    """Has weights that float32 cannot represent."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(1, dtype=torch.float64))


class WithoutExamples(Letters):
    examples = ()


class CannotRead(Letters):
    examples = ("A1",)


class NeedsArguments(Letters):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


class NoModule:
    width = 4


class Centred(Letters):
    """Subtracts the mean of the batch, so that a vector depends on the other inputs."""

    def forward(self, inputs: list[Tensor]) -> Tensor:
        z_BD = super().forward(inputs)
        return z_BD - z_BD.mean(dim=0)
