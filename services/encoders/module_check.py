"""`lifelong encoder check module:Class`: does a class of the user do what `Encoder` says, and how fast is it here?

    class --import, its examples--> vectors alone and together --> do they depend on each other?
          --float32, INT8 by torchao--> cosines, times of batches

A class that does not do it is refused when it is imported, with the reason.
"""

import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

import torch
from torch import nn

from model.module_code import FP32, import_encoder
from model.module_encoder import ModuleEncoder, ModuleInputs, WholeModule, module_tensors
from model.ragged import RaggedBatch

SIZES: Final = (1, 16, 64)
"""Inputs in the batches that are timed."""

ROUNDS: Final = 5
MAX_DEPENDENCE: Final = 1e-3
"""A larger difference between an input alone and among others is no rounding: it depends on the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModuleCheck:
    """The result. `dependence` is the largest difference that other inputs make to a unit vector's numbers."""

    path: str
    source: str
    width: int
    max_inputs: int
    parameters: int
    trained: int
    """Those that slow rounds train."""
    bytes: int
    dependence: float
    cosines: dict[str, float]
    """The lowest cosine with float32, by precision."""
    ms: dict[str, dict[str, float]]
    """Median times of batches, by precision and number of inputs."""

    @property
    def is_right(self) -> bool:
        """Whether a vector depends on its own input alone; written so that a NaN is not right."""
        return self.dependence <= MAX_DEPENDENCE

    def fields(self) -> dict[str, Any]:
        return asdict(self) | {"is_right": self.is_right}

    def lines(self) -> list[str]:
        verdict = "right" if self.is_right else "WRONG: a vector must depend on its own input alone"
        lines = [
            f"class       {self.path}, source {self.source[:12]}",
            f"vectors     {self.width} wide, of inputs of up to {self.max_inputs} numbers",
            f"weights     {self.parameters:,}, of which slow rounds train {self.trained:,}; {self.bytes:,} bytes",
            f"alone       differs by up to {self.dependence:.1e} from among others: {verdict}",
        ]
        for precision, ms in self.ms.items():
            times = ", ".join(f"{size}: {each:.2f} ms" for size, each in ms.items())
            lines.append(f"{precision:<11} lowest cosine {self.cosines[precision]:.4f}; a batch of {times}")
        return lines


def check_module(path: str) -> ModuleCheck:
    """Checks a class. Raises EncoderNotFound or WrongConfig."""
    code = import_encoder(path)
    whole = WholeModule(code).eval()
    tensors = module_tensors(whole)
    encoder = ModuleEncoder.from_tensors(code.config, tensors, code)
    examples = ModuleInputs(code).encode_many(code.encoder.examples)
    full_BD = encoder.encode(RaggedBatch.of(examples), FP32)
    alone_BD = torch.cat([encoder.encode(RaggedBatch.of([each]), FP32) for each in examples])
    others = {each: encoder.encode(RaggedBatch.of(examples), each) for each in encoder.precisions}
    return ModuleCheck(
        path=path,
        source=code.config.source,
        width=code.config.d_model,
        max_inputs=code.config.max_inputs,
        parameters=_count(list(code.module.parameters())),
        trained=_count(list(whole.trainable(0))),
        bytes=sum(len(each.to_blob()) for each in tensors.values()),
        dependence=float((full_BD - alone_BD).abs().max()),
        cosines={name: float(torch.cosine_similarity(full_BD, z_BD).min()) for name, z_BD in others.items()},
        ms={name: _times(encoder, examples, name) for name in encoder.precisions},
    )


def _count(parameters: list[nn.Parameter]) -> int:
    return sum(each.numel() for each in parameters)


def _times(encoder: ModuleEncoder, examples: list[list[int]], precision: str) -> dict[str, float]:
    times: dict[str, float] = {}
    for size in SIZES:
        batch = RaggedBatch.of([examples[place % len(examples)] for place in range(size)])
        encoder.encode(batch, precision)
        taken_s: list[float] = []
        for _ in range(ROUNDS):
            start_s = time.perf_counter()
            encoder.encode(batch, precision)
            taken_s.append(time.perf_counter() - start_s)
        times[str(size)] = 1_000 * median(taken_s)
    return times
