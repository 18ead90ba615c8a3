"""The module of a user at work: what reads texts for it, as slow rounds train it, and as it is served.

    text --ModuleInputs--> numbers: what a tokenizer is for the built-in family
    inputs x_T1 --WholeModule: one block, the module--> z_BD      its state, float32 --module_tensors--> QTensors
    batch --ModuleEncoder: in float32 by torch, or its linear layers in INT8 by torchao--> z_BD of unit length

Training goes through the module as it is served: in float32, so there is no rounding to train through. Nothing is
truncated, as half of an image is none: a text that cannot be read is refused with the reason.

Torch's libraries round by the size of a batch, so vectors have no name (`PackedEncoder.encoding`): the learner, which
takes sums apart again, encodes one input at a time.

Shape suffixes: T numbers of all inputs, B inputs, D width.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from lifelong.plugins.encoders.module_code import (
    FAMILY,
    FP32,
    INT8,
    EncoderCode,
    ModuleConfig,
    check_vectors,
    config_from_json,
    import_encoder,
)
from model.errors import UnreadableInput, WrongConfig, WrongShape
from model.inputs import InputMap
from model.linears import Linear, full_precision
from model.packed import Inputs, Kept, PackedEncoder, Tensors, WholeEncoder
from model.qtensor import QTensor
from model.quantize import plain
from model.ragged import RaggedBatch, RaggedLayout
from model.source import is_import_path
from wire.plugins import PluginError, imported

MAX_NUMBER = (1 << 63) - 1


class ModuleInputs:
    """Reads texts for the module of `code`, whose name and digest tell its versions from others."""

    def __init__(self, code: EncoderCode) -> None:
        self.code = code
        self.name = code.config.shown
        self.digest = code.config.source
        self.max_tokens = code.config.max_inputs
        self.probe_texts = tuple(code.encoder.examples)
        self.vocab_size = 0  # there are no tokens, whose number an encoder could lack

    def encode_many(self, texts: Sequence[str], *, max_tokens: int | None = None) -> list[list[int]]:
        """Returns the numbers of each text. `max_tokens` is that of the version, which is ours.

        Raises UnreadableInput for the first that cannot be read, and WrongConfig for another limit.
        """
        if max_tokens not in (None, self.max_tokens):
            raise WrongConfig(f"max_tokens is {max_tokens}, but {self.name} reads inputs of {self.max_tokens} numbers")
        return [self._read(text) for text in texts]

    def reads(self, text: str) -> bool:
        """Whether a text can be read."""
        try:
            self._read(text)
        except UnreadableInput:
            return False
        return True

    def _read(self, text: str) -> list[int]:
        try:
            numbers = list(self.code.encoder.read(text))
        except ValueError as error:
            raise UnreadableInput(str(error)) from error
        if not 0 < len(numbers) <= self.max_tokens:
            raise UnreadableInput(f"it has {len(numbers)} numbers; expected 1 to {self.max_tokens}")
        if not all(isinstance(number, int) and -MAX_NUMBER <= number <= MAX_NUMBER for number in numbers):
            raise UnreadableInput(f"{self.code.config.path}.read returned something else than whole numbers")
        return numbers


PREFIX = "layers.0."
"""How the names of its weights begin, as those of the only block."""

MAX_EXACT = 1 << 24
"""The largest whole number below which float32 has all of them."""


class WholeModule(WholeEncoder):
    """The module of `code`, with the weights that its constructor gives. A slow round trains all of it, or nothing."""

    config: ModuleConfig

    def __init__(self, code: EncoderCode) -> None:
        super().__init__()
        self.config = code.config
        self.embed = nn.Identity()  # nothing lies below the block
        self.layers = nn.ModuleList([code.new_module()])
        self._trained = [name for name, each in self.layers.named_parameters() if each.requires_grad]
        self.max_trained_layers = int(bool(self._trained))

    def forward(self, batch: RaggedBatch) -> Tensor:
        """Returns z_BD of unit length for the inputs of `batch`."""
        return self.forward_from(0, batch.ids_T[:, None], batch.layout)

    def forward_from(
        self, layer: int, x_TD: Tensor, layout: RaggedLayout, *, linear: Linear = full_precision
    ) -> Tensor:
        """Returns z_BD of unit length, in the caller's order, from the inputs. `linear` has nothing to round here."""
        assert layer == 0, "there is one block"
        inputs = layout.split(x_TD[:, 0])
        z_BD = check_vectors(self.config.path, self.layers[0](inputs), len(inputs), self.config.d_model)
        return functional.normalize(z_BD, dim=1)

    def trainable(self, first_layer: int) -> list[nn.Parameter]:
        """Returns the parameters of the blocks from `first_layer` on, which are trained from now on.

        Those that the constructor made without a gradient stay as they are.
        """
        named = dict(self.layers.named_parameters()) if first_layer == 0 else {}
        trained = [named[name] for name in self._trained if name in named]
        for parameter in trained:
            parameter.requires_grad_()
        return trained


@torch.no_grad()
def module_tensors(whole: WholeModule) -> dict[str, QTensor]:
    """Returns the weights and buffers of the module as they are stored, in float32. Raises NonFinite or WrongShape."""
    tensors: dict[str, QTensor] = {}
    for name, value in whole.layers[0].state_dict().items():
        if not value.is_floating_point() and value.numel() and int(value.abs().max()) >= MAX_EXACT:
            raise WrongShape(f"{name} is {value.dtype} with values of {MAX_EXACT} and more, which float32 has not")
        tensors[PREFIX + name] = plain(PREFIX + name, value.float())
    return tensors


def load_module(code: EncoderCode, tensors: Mapping[str, QTensor]) -> nn.Module:
    """Returns a module of `code` with the stored weights. Raises WrongShape, naming what does not fit."""
    module = code.new_module()
    own = module.state_dict()
    stored = {name.removeprefix(PREFIX): each for name, each in tensors.items() if name.startswith(PREFIX)}
    state: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name in own:
            state[name] = tensor.dequantize().to(own[name].dtype)
    missing = own.keys() - state.keys()
    unknown = stored.keys() - own.keys()
    wrong = [name for name, value in state.items() if value.shape != own[name].shape]
    if missing or unknown or wrong:
        raise WrongShape(
            f"{code.config.path}: its weights lack {sorted(missing)}, have {sorted(unknown)} besides, and are of "
            f"another shape for {wrong}"
        )
    module.load_state_dict(state)
    return module.eval().requires_grad_(requires_grad=False)


class ModuleEncoder:
    """A `PackedEncoder` that is a module of the user. Immutable; threads may share it."""

    is_batch_invariant = False
    is_one_block = True
    prefixes = ()

    def __init__(self, config: ModuleConfig, modules: Mapping[str, nn.Module], inputs: InputMap | None = None) -> None:
        self.config = config
        self.inputs = inputs or InputMap(config.d_model)
        self._modules = modules
        self.precisions = tuple(modules)
        """Those in which inputs can be encoded, the most accurate first."""

    @classmethod
    def from_tensors(cls, config: ModuleConfig, tensors: Mapping[str, QTensor], code: EncoderCode) -> "ModuleEncoder":
        """Returns the module of `code` with stored weights. Raises WrongShape, and WrongConfig without torchao."""
        modules = {FP32: load_module(code, tensors)}
        if config.int8:
            modules[INT8] = _in_int8(config, modules[FP32])
        return cls(config, modules, InputMap(config.d_model, tensors))

    def encode(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        """Returns z_BD of unit length, in the caller's order. Raises ValueError for a precision that there is not."""
        return functional.normalize(self.vectors(batch, precision), dim=1)

    @torch.no_grad()
    def vectors(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        """Returns z_BD as the module makes them. Raises as `encode`."""
        return self._vectors(batch.layout.split(batch.ids_T), precision)

    def encode_prefix(self, batch: RaggedBatch, layer: int, precision: str | None = None) -> Tensor:
        """Returns the numbers x_T1 that the module reads."""
        return batch.ids_T[:, None]

    @torch.no_grad()
    def encode_from(self, layer: int, x_TD: Tensor, layout: RaggedLayout, precision: str | None = None) -> Tensor:
        """Returns z_BD of unit length, of these numbers. Raises as `encode`."""
        return functional.normalize(self._vectors(layout.split(x_TD[:, 0]), precision), dim=1)

    def _vectors(self, inputs: list[Tensor], precision: str | None) -> Tensor:
        name = self.precisions[0] if precision is None else precision
        if name not in self._modules:
            raise ValueError(f"precision is {name!r}; expected one of {', '.join(self.precisions)}")
        return check_vectors(self.config.path, self._modules[name](inputs), len(inputs), self.config.d_model)

    def encoding(self, digests: Mapping[str, str], max_tokens: int) -> str:
        """Returns "": another process may compute otherwise."""
        return ""

    @property
    def implementation(self) -> str:
        return "torch"

    def has_shape_of(self, other: PackedEncoder) -> bool:
        """Whether both are of the same class, from the same source."""
        return self.config.without_labels == other.config.without_labels


def _in_int8(config: ModuleConfig, module: nn.Module) -> nn.Module:
    """Returns a copy whose linear layers compute in INT8: weights by output channel, activations by row."""
    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError as error:
        raise WrongConfig(
            f"encoder {config.path!r} has int8 = True, which needs torchao: pip install 'lifelong[torchao]' ({error})"
        ) from error
    copied = copy.deepcopy(module)
    quantize_(copied, Int8DynamicActivationInt8WeightConfig())
    return copied


class ModuleFamily:
    """The family `module`: an encoder is the import path of a class, or of a function, that makes a module."""

    name = FAMILY

    def claims(self, setting: str) -> bool:
        """Whether it is an import path, but that of a family of another, which nobody can call."""
        if not is_import_path(setting):
            return False
        try:
            return callable(imported(setting))
        except PluginError:
            return True

    def open(self, encoder: str, *, max_tokens: int | None) -> tuple[WholeModule, Inputs]:
        inputs = self.open_inputs(encoder, max_tokens=max_tokens)
        return WholeModule(inputs.code).eval(), inputs

    def open_inputs(self, encoder: str, *, max_tokens: int | None) -> ModuleInputs:
        inputs = ModuleInputs(import_encoder(encoder))
        if max_tokens not in (None, inputs.max_tokens):
            raise WrongConfig(
                f"serving.max_tokens is {max_tokens}, but {encoder} reads up to {inputs.max_tokens} numbers of an "
                "input, and cuts none: leave serving.max_tokens out"
            )
        return inputs

    def config_from_json(self, text: str) -> ModuleConfig:
        return config_from_json(text)

    def precisions(self, config: ModuleConfig, schemes: Mapping[str, str]) -> tuple[str, ...]:
        return config.precisions

    def pack(self, config: ModuleConfig, tensors: Tensors, inputs: Inputs) -> PackedEncoder:
        if not isinstance(inputs, ModuleInputs) or inputs.code.config.source != config.source:
            raise WrongConfig(f"it was made by {config.shown}; `encoder` names {inputs.name} here")
        return ModuleEncoder.from_tensors(config, tensors, inputs.code)

    def stored(self, whole: WholeModule, *, first_layer: int | None, grams: Mapping[str, Tensor]) -> Tensors:
        return {} if first_layer else module_tensors(whole)

    def rounded(self, whole: WholeModule, inputs: Inputs, *, first_layer: int, kept: Kept) -> Tensors:
        return module_tensors(whole)

    def restored(self, config: ModuleConfig, tensors: Tensors) -> WholeModule:
        raise WrongConfig(f"{config.shown}, is code, which is not handed over: set `encoder` and restart the service")


MODULE: Final = ModuleFamily()
