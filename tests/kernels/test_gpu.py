"""All kernels for GPUs: the reasons against them, who loads Triton, and that its compiler accepts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernels import gpu, linear_i4, linear_i8
from kernels.attention import IMPLS as ATTENTION
from kernels.attention import group_equal
from kernels.linear_i4.reference import Int4Weight as Weight4
from kernels.linear_i8.reference import Int8Weight

WITHOUT_TRITON = """
import sys, torch
from kernels import linear_i4, linear_i8
from kernels.attention import attention, group_equal
x = torch.ones(2, 64)
linear_i8.linear_i8(x, linear_i8.pack(torch.ones(3, 64, dtype=torch.int8), torch.ones(3)))
hi, m = torch.ones(3, 32, dtype=torch.uint8), torch.ones(3, 1, dtype=torch.uint8)
linear_i4.linear_i4(x, linear_i4.pack(hi, m, torch.ones(3)))
attention(torch.ones(2, 48), group_equal([0, 2]), num_heads=1)
print("triton" in sys.modules)
"""

COMPILE = """
import json
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from kernels.attention import gpu as attention
from kernels.linear_i4 import gpu as linear_i4
from kernels.linear_i8 import gpu as linear_i8

TYPES = dict.fromkeys(("s_ptr", "w_ptr", "hi_ptr", "m_ptr"), "*i8") | dict.fromkeys("MNK", "i32")
TYPES |= {"shift_ptr": "*i32", "offsets_ptr": "*i64", "scale": "fp32"}
TILE = {"BLOCK_M": 64, "BLOCK_N": linear_i8.BLOCK_N, "BLOCK_K": linear_i8.BLOCK_K}

def ptx(capability, kernel, **constants):
    types = {name: "constexpr" if name in constants else TYPES.get(name, "*fp32") for name in kernel.arg_names}
    source = ASTSource(kernel, signature=types, constexprs=constants)
    target = GPUTarget("cuda", capability, 32)
    return compile(source, target=target, options={"enable_fp_fusion": False}).asm["ptx"]

print(json.dumps([{
    "rows": ptx(capability, linear_i8._quantize_row, EPSILON=1e-8, BLOCK_K=512),
    "linear_i8": ptx(capability, linear_i8._multiply, **TILE),
    "linear_i4": ptx(capability, linear_i4._multiply, **TILE),
    "attention": ptx(capability, attention._attend, H=12, D=32, BLOCK=64),
} for capability in (80, 90)]))  # Ampere and Hopper, which multiply int8 by different instructions
"""


def python(program: str, **environment: str) -> str:
    """Returns the output of a Python process that does not use Triton's interpreter."""
    environment |= {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def test_tensors_elsewhere_are_a_reason() -> None:
    reason = "the tensors are not on a GPU"
    int8 = Int8Weight.of(torch.ones(3, 64, dtype=torch.int8), torch.ones(3), None)
    int4 = Weight4(torch.ones(3, 32, dtype=torch.uint8), torch.ones(3, 1, dtype=torch.uint8), torch.ones(3), None)
    assert reason in linear_i8.IMPLS_ON_GPU[0].why_not(int8)
    assert reason in linear_i4.IMPLS[0].why_not(int4)
    assert reason in ATTENTION[0].why_not(torch.ones(2, 48), group_equal([0, 2]), 1)


def test_the_lack_of_triton_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu._has_triton.cache_clear()
    monkeypatch.setitem(sys.modules, "triton", None)
    assert "triton is not installed" in gpu.why_not(torch.ones(1))
    gpu._has_triton.cache_clear()


def test_without_a_gpu_triton_is_not_loaded() -> None:
    assert python(WITHOUT_TRITON).strip() == "False"


def test_the_compiler_accepts_every_kernel(tmp_path: Path) -> None:
    """The interpreter accepts programs that the compiler refuses. Compiling needs no GPU."""
    pytest.importorskip("triton", reason="triton is not installed")
    for ptx in json.loads(python(COMPILE, TRITON_CACHE_DIR=str(tmp_path))):
        assert "s32.s8.s8" in ptx["linear_i8"] and "s32.s8.s8" in ptx["linear_i4"], "not on the tensor cores"
        assert "div.full" not in ptx["rows"] and "fma" not in ptx["rows"], "rounds differently from the reference"
        assert "tf32" not in ptx["attention"], "loses half the digits"
