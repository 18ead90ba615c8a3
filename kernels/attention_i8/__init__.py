"""Attention in 8-bit integers, over sequences of different lengths laid end to end: what the native encoder runs.

`reference.py` defines it, in plain torch; `native.py` has it in our own C, to the bit. Full precision, and gradients,
are in `kernels.attention`.
"""

from kernels.attention_i8.native import why_not_head
from kernels.attention_i8.reference import attention

__all__ = ["attention", "why_not_head"]
