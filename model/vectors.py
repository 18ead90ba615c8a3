"""The vectors of a layer: its norms, the biases of its matrices, and the scales of their inputs, as one stored tensor.

    a matrix, with bias and in_scale  --part_with--> integers, scales and ksum alone | vectors of the layer
    both --matrix_of--> the matrix as the layer uses it

So a matrix that several layers use is stored once, and a version that trained biases and norms alone ships no matrix.
`in_scale` belongs to the integers: it is in the vectors of the lowest layer that uses them.

In manifests of format 2 every matrix had its bias and its in_scale, every norm was a tensor, and no matrix was shared.
`from_format` reads them.

Rejected: a tensor for each vector (their headers would be as large as they are).
"""

from collections.abc import Mapping

from torch import Tensor

from model.errors import MissingWeight, WrongShape
from model.modules.config import EncoderConfig, ModuleConfig
from model.plan import BlockPlan, MatrixPlan, layer_of, plan_of
from model.qtensor import VECTORS, QTensor, check_finite

VECTOR_PARTS = ("bias", "in_scale")
"""The parts that move from a matrix to the vectors."""


def part_with(matrix: MatrixPlan, stored: QTensor) -> tuple[QTensor, dict[str, Tensor]]:
    """Returns the matrix without its vectors, and these by their names in the layer."""
    kept = {name: part for name, part in stored.parts.items() if name not in VECTOR_PARTS}
    vectors = {f"{matrix.part}.{name}": stored.parts[name] for name in VECTOR_PARTS if name in stored.parts}
    return QTensor(stored.name, stored.scheme, kept), vectors


def vectors_tensor(block: BlockPlan, parts: Mapping[str, Tensor]) -> QTensor:
    """Returns the tensor of a layer's vectors. Raises NonFinite."""
    owned = {name: part.detach().float().clone() for name, part in parts.items()}
    check_finite(block.vectors, owned)
    return QTensor(block.vectors, VECTORS, owned)


def matrix_of(tensors: Mapping[str, QTensor], matrix: MatrixPlan) -> QTensor:
    """Returns a matrix as its layer uses it: the shared integers, their in_scale, and the bias of the layer."""
    stored = tensors[matrix.name]
    bias_N = _vectors(tensors, matrix.path)[f"{matrix.part}.bias"]
    return QTensor(stored.name, stored.scheme, {**stored.parts, "bias": bias_N, **_in_scale(tensors, matrix)})


def lora_of(tensors: Mapping[str, QTensor], matrix: MatrixPlan) -> tuple[QTensor, QTensor] | None:
    """Returns the low-rank pair of a matrix, if its layer has one; the first reads the inputs that the matrix reads."""
    if not matrix.lora:
        return None
    first, second = (tensors[name] for name in matrix.lora)
    return QTensor(first.name, first.scheme, {**first.parts, **_in_scale(tensors, matrix)}), second


def norm_of(tensors: Mapping[str, QTensor], name: str) -> Tensor:
    """Returns a norm of a layer [2, D], gain over bias."""
    return _vectors(tensors, name)[name.rsplit(".", 1)[-1]]


def in_scale_of(tensors: Mapping[str, QTensor], matrix: MatrixPlan) -> Tensor | None:
    """Returns the scales by which the inputs of a matrix are multiplied before they are rounded, if there are any."""
    return _in_scale(tensors, matrix).get("in_scale")


def check_vectors(tensors: Mapping[str, QTensor], block: BlockPlan, width: int) -> None:
    """Raises MissingWeight or WrongShape unless the vectors of a layer are there, in the shapes of its plan."""
    shapes: dict[str, tuple[int, ...]] = {"norm1": (2, width), "norm2": (2, width)}
    shapes |= {f"{matrix.part}.bias": (matrix.rows,) for matrix in block.matrices}
    scales: dict[str, tuple[int, ...]]
    scales = {f"{matrix.part}.in_scale": (matrix.columns,) for matrix in block.matrices if _may_scale(matrix)}
    if block.vectors not in tensors:
        raise MissingWeight(f"{block.vectors} is missing; expected {VECTORS} {shapes}")
    tensor = tensors[block.vectors]
    found = {name: tuple(part.shape) for name, part in tensor.parts.items()}
    allowed = shapes | scales
    if tensor.scheme != VECTORS or not shapes.items() <= found.items() <= allowed.items():
        raise WrongShape(f"{block.vectors} is {tensor.scheme} {found}; expected {VECTORS} {allowed}")


def from_format(version: int, config: EncoderConfig, tensors: Mapping[str, QTensor]) -> dict[str, QTensor]:
    """Returns the tensors of a manifest of this format as those of format 3. Raises MissingWeight."""
    split = dict(tensors)
    if version > 2 or isinstance(config, ModuleConfig):  # there were no modules in format 2
        return split
    for block in plan_of(config).blocks:
        vectors: dict[str, Tensor] = {}
        for matrix in block.matrices:
            if matrix.path not in split:
                raise MissingWeight(f"{matrix.path} is missing; expected {matrix.scheme}")
            split[matrix.path], own = part_with(matrix, split[matrix.path])
            vectors |= own
        for norm in (block.norm1, block.norm2):
            if norm not in split:
                raise MissingWeight(f"{norm} is missing")
            vectors[norm.rsplit(".", 1)[-1]] = split.pop(norm).parts["value"]
        split[block.vectors] = QTensor(block.vectors, VECTORS, vectors)
    return split


def _may_scale(matrix: MatrixPlan) -> bool:
    return matrix.in_scale and matrix.is_first


def _in_scale(tensors: Mapping[str, QTensor], matrix: MatrixPlan) -> dict[str, Tensor]:
    parts = _vectors(tensors, matrix.name)
    name = f"{matrix.part}.in_scale"
    return {"in_scale": parts[name]} if name in parts else {}


def vectors_of(name: str) -> str:
    """Returns the name of the vectors of the layer to which `name` belongs."""
    return f"layers.{layer_of(name)}.vectors"


def _vectors(tensors: Mapping[str, QTensor], name: str) -> Mapping[str, Tensor]:
    return tensors[vectors_of(name)].parts
