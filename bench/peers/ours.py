"""Our own encoder: no padded token is computed, so there is one way to take a batch."""

import numpy as np
import numpy.typing as npt
import torch

from bench.peers.rectangles import Encode, TokenIds
from model.quantized import QuantizedEncoder
from model.ragged import RaggedBatch
from model.strata import Strata
from model.weights import encoder_tensors


class OurEngine:
    def __init__(self, strata: Strata, precision: str, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        self._encoder = QuantizedEncoder.from_tensors(strata.config, encoder_tensors(strata))
        self._precision = precision

    def prepare(self, token_ids: TokenIds) -> tuple[str, Encode]:
        def encode(token_ids: TokenIds) -> npt.NDArray[np.float32]:
            z_BD: npt.NDArray[np.float32] = self._encoder.encode(RaggedBatch.of(token_ids), self._precision).numpy()
            return z_BD

        return "ragged", encode
