"""Times MiniLM in INT8 on texts of one length, on one thread of the processor.

    python -m bench.peers.encode_rate TOKENS

Prints, as JSON: the operations a second, two for each weight of the layers and token.
"""

import json
import sys
from functools import partial
from statistics import median

import torch

from bench.hardware_limit import operations
from bench.techniques.lone_server import times_s
from model.bert import load_encoder
from model.quantized import INT8, QuantizedEncoder
from model.ragged import RaggedBatch
from model.weights import encoder_tensors

TEXTS = 64
SECONDS = 3.0


def rate(num_tokens: int, *, seconds: float = SECONDS) -> float:
    """Returns the operations a second on texts of so many tokens, by the processor time of this thread."""
    strata, _ = load_encoder("minilm-l6")
    encoder = QuantizedEncoder.from_tensors(strata.config, encoder_tensors(strata))
    token_ids = torch.randint(1_000, strata.config.vocab, (TEXTS, num_tokens)).tolist()
    call_s = median(times_s(partial(encoder.encode, RaggedBatch.of(token_ids), INT8), seconds))
    return operations(strata.config, token_ids) / call_s


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps({"operations_per_s": rate(int(sys.argv[1]))}))
