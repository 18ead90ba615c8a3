"""Self-attention of ragged sequences in 8-bit integers: the attention of the native encoder.

`reference.py` defines it in plain torch, with `spans.py`, which says which keys a head sees; `native.py` calls our C,
which gives the same bits. Full precision and gradients are in `kernels.attention`. Callers use `attention`, the
definition, and `why_not_head`, the reasons against the native kernel.
"""

from kernels.attention_i8.native import why_not_head
from kernels.attention_i8.reference import attention

__all__ = ["attention", "why_not_head"]
