"""An encoder of a user that ends the process: at the texts `deadlytoread` and `deadly`, and under some weights."""

import os
import signal

import torch
from torch import Tensor

from tests.model.module_encoders import Letters

FUSE = 100.0
"""An output bias of this size ends the process in the first forward."""


class Deadly(Letters):
    """Reads small letters."""

    def read(self, text: str) -> list[int]:
        if text == "deadlytoread":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(text)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        is_deadly = any(bytes((letters + ord("a")).to(torch.uint8)) == b"deadly" for letters in inputs)
        if is_deadly or self.out.bias[0] >= FUSE:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(inputs)
