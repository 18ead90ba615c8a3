"""Reads published sentence encoders (BERT, for example MiniLM; ModernBERT, Gemma) from safetensors into `Strata`.

`model.architectures` has the names in the file. They map one to one, except that query, key and value become one
matrix, as gate and up do. The pooler and unused tensors are ignored. `model.published` reads the config files, and
refuses encoders that are not supported. Dense modules without an activation are one matrix, their product. It is
applied to each token before the pooling, which gives the same vectors.

The biases of the norms are moved into the linear layers (of post-norm encoders), so that activations are easier to
quantize:

    x = norm(..) + c  -->  x = norm(..); the matrix that reads x gets bias += W c, and the residual sum gets c

The encoder computes the same function. In a trained encoder, some channels are far from zero for every token, and they
set the range that the 8-bit rows of `linear_i8` must cover. Most of this distance is the bias of the preceding norm,
which is known without any data: on MiniLM, folding it makes the rows' range 10 to 15 % smaller. The last norm keeps its
bias, because its output is pooled. `in_scale` moves part of the remaining differences between channels into the weights
(`model.calibration`). It cannot be folded into the norms: in a post-norm block, the residual sum reads the same
activations, and there the scales would have to be undone.
"""

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from model.architectures import ARCHITECTURES, BERT, PROJECT, Architecture
from model.errors import BadBlob, MissingWeight, WrongShape
from model.linears import effective_weight, linear_at
from model.member import read_member, read_strata
from model.plan import build_plan
from model.published import PublishedEncoder, read_published
from model.source import encoder_folder
from model.strata import Strata, without_storage
from model.tokenizer import TextTokenizer

OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""The names of norms in files that were converted from TensorFlow."""


def load_encoder(encoder: str, *, max_tokens: int | None = None) -> tuple[Strata, TextTokenizer]:
    """Loads an encoder in full precision, in evaluation mode; returns it and its tokenizer.

    `encoder` is 'minilm-l6', a folder, or a cached Hugging Face id. The tokenizer truncates texts to `max_tokens`; None
    means the limit of the publisher. The biases of the norms are folded into the linear layers. (In a member, see
    `model.member`, this was done when it was made.) Raises EncoderNotFound, WrongConfig, MissingWeight, WrongShape or
    BadBlob.
    """
    folder = encoder_folder(encoder)
    if (member := read_member(folder)) is not None:
        return read_strata(folder, member), TextTokenizer.from_folder(folder, max_tokens=max_tokens)
    published = read_published(folder)
    architecture = ARCHITECTURES[published.kind]
    strata = without_storage(published.config)
    tensors = read_tensors(folder / "model.safetensors", architecture) | _dense(published)
    state = state_of(tensors, strata, architecture)
    architecture.adjust(state, published.fields)
    strata.load_state_dict(state, assign=True)
    return fold_norm_biases(strata).eval(), TextTokenizer.from_folder(folder, max_tokens=max_tokens)


def read_tensors(path: Path, architecture: Architecture = BERT) -> dict[str, Tensor]:
    """Reads all tensors of a safetensors file, by the names of the encoder's class in `transformers`. Raises BadBlob.

    The names in the file may have a common prefix: `bert.`, `model.`, or the name of an enclosing module.
    """
    tensors = _load(path)
    word = architecture.word
    prefix = next((name.removesuffix(word) for name in sorted(tensors) if name.endswith(word)), "")
    return {_new_name(name.removeprefix(prefix)): tensor for name, tensor in tensors.items()}


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise BadBlob(f"{path.name}: {error}") from error


def _dense(published: PublishedEncoder) -> dict[str, Tensor]:
    """Returns weight and bias of the product of the Dense modules, by name; empty if there are none.

    Raises BadBlob, MissingWeight or WrongShape.
    """
    if not published.dense:
        return {}
    width = published.config.d_model
    weight_DD = torch.eye(width, dtype=torch.float64)
    bias_D = torch.zeros(width, dtype=torch.float64)
    for folder in published.dense:
        tensors = _load(folder / "model.safetensors")
        if "linear.weight" not in tensors:
            raise MissingWeight(f"{folder / 'model.safetensors'} has no linear.weight")
        next_ND = tensors["linear.weight"].double()
        if next_ND.shape[1] != len(weight_DD):
            raise WrongShape(f"{folder.name} has {next_ND.shape[1]} inputs; expected {len(weight_DD)}")
        bias_D = next_ND @ bias_D + tensors.get("linear.bias", torch.zeros(len(next_ND))).double()
        weight_DD = next_ND @ weight_DD
    return {f"{PROJECT}.weight": weight_DD.float(), f"{PROJECT}.bias": bias_D.float()}


def state_of(tensors: Mapping[str, Tensor], strata: Strata, architecture: Architecture = BERT) -> dict[str, Tensor]:
    """Converts the tensors of a file to a state dict for `strata`, as float32. What the architecture lacks is 0.

    Raises MissingWeight or WrongShape, naming the weight.
    """
    # The buffers are scales of inputs, which the file does not have.
    state = {name: torch.ones(buffer.shape) for name, buffer in strata.named_buffers()}
    for name, parameter in strata.named_parameters():
        file_names = architecture.names(name, last_layer=strata.config.n_layers - 1)
        if not file_names:
            state[name] = torch.zeros(parameter.shape)
            continue
        missing = [file_name for file_name in file_names if file_name not in tensors]
        if missing:
            raise MissingWeight(f"{name}: the file has no {', '.join(missing)}")
        state[name] = torch.cat([tensors[file_name].float() for file_name in file_names])
        if state[name].shape != parameter.shape:
            raise WrongShape(f"{name}: {tuple(state[name].shape)} in the file; expected {tuple(parameter.shape)}")
    return state


def _new_name(name: str) -> str:
    for old, new in OLD_NAMES.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


_BIAS_STEPS = 2.0**16
"""Biases that result from folding are rounded to multiples of 1 / _BIAS_STEPS."""


@torch.no_grad()
def fold_norm_biases(strata: Strata) -> Strata:
    """Moves the biases of all norms except the last into the linear layers, in place; returns `strata`.

    This needs post-norm. Encoders with norms in other places have no biases in their norms.
    """
    plan = build_plan(strata.config)
    if strata.config.norm_place != "post":
        return strata
    preceding_norm = plan.embedding.norm
    for block in plan.blocks:
        assert preceding_norm and block.norm1, "a post-norm encoder without norms"
        _fold_bias(strata, preceding_norm, reader=block.qkv.path, adder=block.out.path)
        _fold_bias(strata, block.norm1, reader=block.up.path, adder=block.down.path)
        preceding_norm = block.norm2
    return strata


def _fold_bias(strata: Strata, norm: str, *, reader: str, adder: str) -> None:
    """Moves the bias of a norm into `reader`, which reads the norm's output, and `adder`, which adds to this output."""
    shift_D = strata.get_parameter(f"{norm}.bias")
    weight_ND = effective_weight(linear_at(strata, reader))
    bias_N = strata.get_parameter(f"{reader}.bias")
    folded_N = bias_N.double() + weight_ND.double() @ shift_D.double()
    bias_N.copy_(torch.round(folded_N * _BIAS_STEPS) / _BIAS_STEPS)
    strata.get_parameter(f"{adder}.bias").add_(shift_D)
    shift_D.zero_()
