"""Our own encoder as a learner first publishes it: no padded token is computed, so there is one way to take a batch."""

import numpy as np
import numpy.typing as npt
import torch

from bench.peers.rectangles import Prepared, TokenIds
from learner.config import LearnerConfig
from learner.learner import Learner
from model.module_code import built_in
from model.quantized import QuantizedEncoder
from model.ragged import RaggedBatch
from model.strata import Strata
from model.tokenizer import TextTokenizer


class OurEngine:
    def __init__(self, strata: Strata, tokenizer: TextTokenizer, precision: str, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        served = Learner(LearnerConfig(), strata, tokenizer).fast_head.served
        tensors = {name: stored.tensor for name, stored in served.tensors.items()}
        self._encoder = QuantizedEncoder.from_tensors(built_in(served.config), tensors)
        self._precision = precision

    def prepare(self, token_ids: TokenIds) -> Prepared:
        def encode(token_ids: TokenIds) -> npt.NDArray[np.float32]:
            z_BD: npt.NDArray[np.float32] = self._encoder.encode(RaggedBatch.of(token_ids), self._precision).numpy()
            return z_BD

        return Prepared("ragged", encode)
