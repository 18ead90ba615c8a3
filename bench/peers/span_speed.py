"""Times attention to some of the keys against torch's fused attention to all of them, on one thread.

    python -m bench.peers.span_speed

Prints, as JSON, milliseconds of processor time for each length (`evals.ledger.span_speed`).
"""

import json

import torch

from evals.ledger import span_speed
from kernels.allocator import keep_freed_memory


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    print(json.dumps([{"length": length, "ms": span_speed.times_ms(length)} for length in span_speed.LENGTHS]))


if __name__ == "__main__":
    main()
