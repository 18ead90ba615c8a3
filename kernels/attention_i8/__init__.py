"""Self-attention of ragged sequences in 8-bit integers: the attention of the native encoder.

`reference.py` defines it in plain torch, together with `spans.py`, which chooses the keys of each head. `native.py`
calls our C, which gives the same bits. `kernels.attention` has full precision and gradients. Callers use `attention`,
the definition, and `why_not_head`, the reasons why the native kernel cannot run.
"""

from kernels.attention_i8.native import why_not_head
from kernels.attention_i8.reference import attention

__all__ = ["attention", "why_not_head"]
