"""Converts an encoder to stored weights (QTensors), and back.

    Strata --encoder_tensors--> {name: QTensor} --to_strata--> Strata
    a matrix with bias and in_scale --split_vectors--> the matrix without them, and the vectors of its layer
    the matrix, the vectors of a layer --read_matrix--> the matrix with the bias and in_scale of this layer

Matrices and embeddings are INT8 with a scale for each row. The vectors of a layer are one float32 tensor: its norms,
the biases of its matrices, and the scales of their inputs. So a matrix that several layers use is stored once, and if
only biases and norms were trained, no matrix is sent. `in_scale` belongs to the integers of a matrix, so it is stored
with the vectors of the lowest layer that uses the matrix. Names are the module paths of `Strata`. If only the top block
was trained, a new version replaces five tensors, and has the digests of all others in common with its parent.

Shape suffixes: T tokens, D width, N outputs, K inputs.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor, nn

from model.config import StrataConfig
from model.errors import MissingWeight, WrongShape
from model.grid import attach_grids, find_grid
from model.linears import ScaledLinear, linear_at
from model.plan import BlockPlan, MatrixPlan, build_plan, layer_index
from model.qtensor import FP32, N8G64, VECTORS, W4G64, W8C, QTensor, check_finite
from model.quantize import plain, quantize_n8g64, quantize_on, quantize_w8c
from model.sparse import BCSR
from model.strata import Strata, without_storage

HEAD = "head."

MODULE_PATHS = {"embed.type": "embed.segment"}
"""The names of weights that are not the path of their module in `Strata`: weight name -> module path."""


def encoder_names(config: StrataConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Returns the scheme and shape of every weight of the encoder by name, except for the vectors of its layers."""
    plan = build_plan(config)
    width = config.d_model
    names: dict[str, tuple[str, tuple[int, ...]]] = {
        plan.embedding.word: (W8C, (config.vocab, config.embed_dim or width)),
        plan.embedding.segment: (W8C, (config.type_vocab, width)),
    }
    if plan.embedding.norm:
        names[plan.embedding.norm] = (FP32, (2, width))
    if plan.embedding.position:
        names[plan.embedding.position] = (W8C, (config.max_pos, width))
    expand = plan.embedding.expand
    for matrix in (*plan.banks, *([expand] if expand else ())):
        names[matrix.name] = (matrix.scheme, (matrix.rows, matrix.columns))
    for matrix in plan.matrices:
        names |= {name: (W8C, shape) for name, shape in matrix.lora.items()}
    return names


def encoder_tensors(
    strata: Strata, *, first_layer: int | None = None, grams: Mapping[str, Tensor] = MappingProxyType({})
) -> dict[str, QTensor]:
    """Quantizes the weights of an encoder: all of them, or only those of the blocks from `first_layer` on.

    A matrix that has a grid (`model.grid`) is rounded to that grid. A matrix without a grid is rounded by GPTQ if
    `grams` has the Gram matrix [K, K] of its inputs under its name (`model.calibration`), and to the nearest integers
    otherwise. Raises NonFinite.
    """
    tensors: dict[str, QTensor] = {}
    if first_layer is None:
        for name, (scheme, _) in encoder_names(strata.config).items():
            if layer_index(name) < 0:
                tensors[name] = _quantize_module(name, scheme, strata.get_submodule(MODULE_PATHS.get(name, name)), None)
    for block in build_plan(strata.config).blocks[first_layer or 0 :]:
        tensors |= _block_tensors(strata, block, grams)
    return tensors


def _block_tensors(strata: Strata, block: BlockPlan, grams: Mapping[str, Tensor]) -> dict[str, QTensor]:
    """Quantizes a layer: returns its vectors, its low-rank pairs, and the matrices that no lower layer uses."""
    tensors: dict[str, QTensor] = {}
    vectors: dict[str, Tensor] = {}
    for norm in block.norms:
        vectors[norm.rsplit(".", 1)[-1]] = _stack_norm(strata.get_submodule(norm))
    for matrix in block.matrices:
        layer = linear_at(strata, matrix.path)
        if matrix.is_first:
            stored = _quantize_module(matrix.name, matrix.scheme, layer, grams.get(matrix.name))
            tensors[matrix.name], matrix_vectors = split_vectors(matrix, stored)
            vectors |= matrix_vectors
        else:
            vectors[f"{matrix.part}.bias"] = layer.bias
        for name in matrix.lora:
            tensors[name], _ = split_vectors(matrix, _quantize_module(name, W8C, linear_at(strata, name), None))
    tensors[block.vectors] = vectors_tensor(block, vectors)
    return tensors


def check_encoder(config: StrataConfig, tensors: Mapping[str, QTensor]) -> None:
    """Raises MissingWeight or WrongShape unless `tensors` has every weight of the encoder in the shape of `config`."""
    for name, (scheme, shape) in encoder_names(config).items():
        check_weight(tensors, name, scheme, shape)
    for block in build_plan(config).blocks:
        check_vectors(tensors, block)


def check_weight(tensors: Mapping[str, QTensor], name: str, scheme: str, shape: tuple[int, ...]) -> QTensor:
    """Checks the scheme and shape of the weight `name`, and returns it. Raises MissingWeight or WrongShape.

    INT4 alone (`w4g64`) and sparse INT8 (`bcsr16x4.w8`) are accepted in place of any quantized scheme.
    """
    if name not in tensors:
        raise MissingWeight(f"{name} is missing; expected {scheme} {list(shape)}")
    tensor = tensors[name]
    is_accepted = tensor.scheme == scheme or (tensor.scheme in (W4G64, BCSR) and scheme != FP32)
    if not is_accepted or tensor.shape != shape:
        raise WrongShape(f"{name} is {tensor.scheme} {list(tensor.shape)}; expected {scheme} {list(shape)}")
    return tensor


def to_strata(config: StrataConfig, tensors: Mapping[str, QTensor]) -> Strata:
    """Makes an encoder in full precision from stored weights, in evaluation mode. It can be trained further.

    A weight that is INT4 alone, or sparse, keeps its grid, so it is stored in its scheme again. Raises MissingWeight or
    WrongShape.
    """
    check_encoder(config, tensors)
    strata = without_storage(config)
    plan = build_plan(config)
    state: dict[str, Tensor] = {}
    for name in encoder_names(config):
        if layer_index(name) < 0:
            path = MODULE_PATHS.get(name, name)
            module_state = _module_state(tensors[name], strata.get_submodule(path))
            state |= {f"{path}.{key}": value for key, value in module_state.items()}
    for matrix in plan.matrices:
        module_state = _module_state(read_matrix(tensors, matrix), strata.get_submodule(matrix.path))
        # A layer that uses a lower layer's matrix owns only its bias.
        keys = module_state if matrix.is_first else ("bias",)
        state |= {f"{matrix.path}.{key}": module_state[key] for key in keys}
        for name, stored in zip(matrix.lora, read_lora(tensors, matrix) or (), strict=True):
            state[f"{name}.weight"] = stored.dequantize()
    for block in plan.blocks:
        for norm in block.norms:
            gain_D, bias_D = read_norm(tensors, norm).unbind(0)
            state |= {f"{norm}.weight": gain_D.clone(), f"{norm}.bias": bias_D.clone()}
    strata.load_state_dict(state, assign=True)
    attach_grids(strata, {name: tensor for name, tensor in tensors.items() if tensor.scheme in (W4G64, BCSR)})
    return strata.eval()


def encoder_key(digests: Mapping[str, str]) -> str:
    """Returns one hex SHA-256 over the digests of the encoder's weights. Weights of the head are skipped.

    Two versions with the same key can share one encoder object.
    """
    lines = [f"{name} {digest}\n" for name, digest in sorted(digests.items()) if not name.startswith(HEAD)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def prefix_names(config: StrataConfig, tensors: Mapping[str, QTensor], *, arithmetic: str) -> tuple[str, ...]:
    """Returns names (hex SHA-256) that identify the activations after 0, 1, ... n_layers blocks.

    If two encoders have the same name at a depth, they compute the same activations x_TD there, bit for bit, even if
    their higher blocks differ. `arithmetic` identifies the implementation that computes them. Returns () if a weight
    has no digest, because it was not read from bytes.
    """
    encoder_weights = encoder_names(config)
    used = {name: tensor for name, tensor in tensors.items() if name in encoder_weights or layer_index(name) >= 0}
    if not all(tensor.digest for tensor in used.values()):
        return ()
    # Fields of the config that do not change the activations get the same values for all encoders.
    embedding = replace(
        config,
        n_layers=1,
        layers=(),
        spans=(),
        pooling="mean",
        normalize=True,
        prefix="",
        head_features=1,
        label_capacity=1,
    )
    hashed = hashlib.sha256(f"{arithmetic} {embedding.canonical_json()}".encode())
    names: list[str] = []
    for layer, block in enumerate((None, *build_plan(config).blocks), start=-1):
        in_layer = {name: tensor for name, tensor in used.items() if layer_index(name) == layer}
        digests = sorted((name, tensor.scheme, tensor.digest) for name, tensor in in_layer.items())
        hashed.update(f"{block} {digests}".encode())
        names.append(hashed.hexdigest())
    return tuple(names)


def _module_state(tensor: QTensor, module: nn.Module) -> dict[str, Tensor]:
    """Returns the state dict of a module with the values of its stored weight. No entry shares memory with others."""
    if tensor.scheme == FP32:
        gain_D, bias_D = tensor.dequantize().unbind(0)
        return {"weight": gain_D.clone(), "bias": bias_D.clone()}
    state = {"weight": tensor.dequantize()}
    if tensor.bias is not None:
        state["bias"] = tensor.bias.clone()
    if isinstance(module, ScaledLinear):
        num_in = tensor.shape[1]
        state["in_scale"] = torch.ones(num_in) if tensor.in_scale is None else tensor.in_scale.clone()
    return state


def _stack_norm(module: nn.Module) -> Tensor:
    """Returns the parameters of a LayerNorm as one tensor [2, D]: first the gain, then the bias."""
    assert isinstance(module, nn.LayerNorm), f"a norm is a {type(module).__name__}"
    return torch.stack((module.weight, module.bias))


def _quantize_module(name: str, scheme: str, module: nn.Module, gram_KK: Tensor | None) -> QTensor:
    """Returns the stored form of a norm, an embedding or a linear layer. Raises NonFinite."""
    if isinstance(module, nn.LayerNorm):
        return plain(name, _stack_norm(module))
    assert isinstance(module, nn.Linear | nn.Embedding), f"{name} is a {type(module).__name__}"
    bias_N = module.bias if isinstance(module, nn.Linear) else None
    in_scale_K = module.in_scale if isinstance(module, ScaledLinear) else None
    grid = find_grid(module)
    if grid is not None:
        return quantize_on(name, grid, module.weight, bias_N, in_scale_K=in_scale_K)
    if scheme == N8G64:
        return quantize_n8g64(name, module.weight, bias_N, gram_KK=gram_KK, in_scale_K=in_scale_K)
    return quantize_w8c(name, module.weight, bias_N, in_scale_K=in_scale_K)


VECTOR_PARTS = ("bias", "in_scale")
"""The parts of a matrix that are stored with the vectors of its layer."""


def split_vectors(matrix: MatrixPlan, stored: QTensor) -> tuple[QTensor, dict[str, Tensor]]:
    """Separates bias and in_scale from a matrix: returns the matrix, and the two vectors by names such as `up.bias`."""
    kept = {name: part for name, part in stored.parts.items() if name not in VECTOR_PARTS}
    vectors = {f"{matrix.part}.{name}": stored.parts[name] for name in VECTOR_PARTS if name in stored.parts}
    return QTensor(stored.name, stored.scheme, kept), vectors


def vectors_tensor(block: BlockPlan, parts: Mapping[str, Tensor]) -> QTensor:
    """Returns a copy of a layer's vectors as one stored tensor, float32. Raises NonFinite."""
    owned = {name: part.detach().float().clone() for name, part in parts.items()}
    check_finite(block.vectors, owned)
    return QTensor(block.vectors, VECTORS, owned)


def read_matrix(tensors: Mapping[str, QTensor], matrix: MatrixPlan) -> QTensor:
    """Returns a matrix with the bias of its layer. Integers and in_scale may belong to a lower layer that shares it."""
    stored = tensors[matrix.name]
    bias_N = _vectors(tensors, matrix.path)[f"{matrix.part}.bias"]
    return QTensor(stored.name, stored.scheme, {**stored.parts, "bias": bias_N, **_in_scale(tensors, matrix)})


def read_lora(tensors: Mapping[str, QTensor], matrix: MatrixPlan) -> tuple[QTensor, QTensor] | None:
    """Returns the low-rank pair A [R, K], B [N, R] of a matrix, or None if its layer has none.

    A reads the same scaled inputs as the matrix, so it gets the `in_scale` of the matrix.
    """
    if not matrix.lora:
        return None
    first, second = (tensors[name] for name in matrix.lora)
    return QTensor(first.name, first.scheme, {**first.parts, **_in_scale(tensors, matrix)}), second


def read_norm(tensors: Mapping[str, QTensor], name: str) -> Tensor:
    """Returns the norm of a layer at this module path: float32 [2, D], first the gain, then the bias."""
    return _vectors(tensors, name)[name.rsplit(".", 1)[-1]]


def read_in_scale(tensors: Mapping[str, QTensor], matrix: MatrixPlan) -> Tensor | None:
    """Returns the scales [K] by which the inputs of a matrix are multiplied before they are rounded, or None."""
    return _in_scale(tensors, matrix).get("in_scale")


def check_vectors(tensors: Mapping[str, QTensor], block: BlockPlan) -> None:
    """Raises MissingWeight or WrongShape unless `tensors` has the vectors of a layer in the shapes of its plan."""
    shapes: dict[str, tuple[int, ...]] = {path.rsplit(".", 1)[-1]: (2, width) for path, width in block.norms.items()}
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


def _may_scale(matrix: MatrixPlan) -> bool:
    return matrix.in_scale and matrix.is_first


def _in_scale(tensors: Mapping[str, QTensor], matrix: MatrixPlan) -> dict[str, Tensor]:
    parts = _vectors(tensors, matrix.name)
    name = f"{matrix.part}.in_scale"
    return {"in_scale": parts[name]} if name in parts else {}


def vectors_name(name: str) -> str:
    """Returns the name of the vectors of the layer that `name` belongs to."""
    return f"layers.{layer_index(name)}.vectors"


def _vectors(tensors: Mapping[str, QTensor], name: str) -> Mapping[str, Tensor]:
    return tensors[vectors_name(name)].parts
