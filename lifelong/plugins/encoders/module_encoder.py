"""The user's module at work: it reads texts, is trained by slow rounds, and is served.

    text --ModuleInputs--> numbers (the part of a tokenizer)
    inputs x_T1 --WholeModule: the module as one block--> z_BD      its state, float32 --module_tensors--> QTensors
    batch --ModuleEncoder: in float32 by torch, or its linear layers in INT8 by torchao--> z_BD of unit length

Training uses the module in float32, as it is served, so there is no rounding to train through. Inputs are never
truncated, because a part of an image is not an image: a text that cannot be read is refused with the reason.

The result of a torch kernel depends on the size of the batch, in the last bits. So the encoding of a module has no name
(`PackedEncoder.encoding`), and the learner, which must subtract exactly what it has added, encodes one input at a time.

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
from model.packed import Inputs, PackedEncoder, TensorCache, Tensors, WholeEncoder
from model.qtensor import QTensor
from model.quantize import plain
from model.ragged import RaggedBatch, RaggedLayout
from model.source import is_import_path
from wire.plugins import PluginError, import_attribute

MAX_NUMBER = (1 << 63) - 1
"""The largest input number: inputs are int64."""


class ModuleInputs:
    """Reads texts for a user's module. `name` and `digest` identify the code that made a version."""

    def __init__(self, code: EncoderCode) -> None:
        self.code = code
        self.name = code.config.shown
        self.digest = code.config.source
        self.max_tokens = code.config.max_inputs
        self.probe_texts = tuple(code.encoder.examples)
        # Any number may be an input, so no vocabulary can be too small.
        self.vocab_size = 0

    def encode_many(self, texts: Sequence[str], *, max_tokens: int | None = None) -> list[list[int]]:
        """Returns the numbers of each text.

        Raises UnreadableInput for the first text that cannot be read, and WrongConfig if `max_tokens` is given and is
        not the length of the longest input: nothing is truncated.
        """
        if max_tokens not in (None, self.max_tokens):
            raise WrongConfig(f"max_tokens is {max_tokens}, but {self.name} reads inputs of {self.max_tokens} numbers")
        return [self._read(text) for text in texts]

    def reads(self, text: str) -> bool:
        """Whether the module can read a text."""
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
            raise UnreadableInput(f"{self.code.config.path}.read returned values other than 64-bit whole numbers")
        return numbers


PREFIX = "layers.0."
"""The prefix of the names of the stored weights: the module is the only block."""

MAX_EXACT = 1 << 24
"""float32 represents every whole number below this one exactly."""


class WholeModule(WholeEncoder):
    """The user's module in full precision, with the constructor's weights. Slow rounds train all of it or nothing."""

    config: ModuleConfig

    def __init__(self, code: EncoderCode) -> None:
        super().__init__()
        self.config = code.config
        # The module is the only block, so there is no embedding below it.
        self.embed = nn.Identity()
        self.layers = nn.ModuleList([code.new_module()])
        self._trained = [name for name, each in self.layers.named_parameters() if each.requires_grad]
        self.max_trained_layers = int(bool(self._trained))

    def forward(self, batch: RaggedBatch) -> Tensor:
        """Returns z_BD of unit length, a row for each input of `batch`."""
        return self.forward_from(0, batch.ids_T[:, None], batch.layout)

    def forward_from(
        self, layer: int, x_TD: Tensor, layout: RaggedLayout, *, linear: Linear = full_precision
    ) -> Tensor:
        """Returns z_BD of unit length, in the caller's order, from the inputs x_T1. `linear` is not used."""
        assert layer == 0, "there is one block"
        inputs = layout.split(x_TD[:, 0])
        z_BD = check_vectors(self.config.path, self.layers[0](inputs), len(inputs), self.config.d_model)
        return functional.normalize(z_BD, dim=1)

    def trainable(self, first_layer: int) -> list[nn.Parameter]:
        """Returns the parameters to train and turns on their gradients. None are trained if `first_layer` > 0.

        Parameters that the constructor made with `requires_grad=False` stay frozen.
        """
        named = dict(self.layers.named_parameters()) if first_layer == 0 else {}
        trained = [named[name] for name in self._trained if name in named]
        for parameter in trained:
            parameter.requires_grad_()
        return trained


@torch.no_grad()
def module_tensors(whole: WholeModule) -> dict[str, QTensor]:
    """Returns the weights and buffers of the module as they are stored, in float32.

    Raises NonFinite for a value that is not finite, and WrongShape for an integer that float32 cannot represent.
    """
    tensors: dict[str, QTensor] = {}
    for name, value in whole.layers[0].state_dict().items():
        if not value.is_floating_point() and value.numel() and int(value.abs().max()) >= MAX_EXACT:
            raise WrongShape(
                f"{name} is {value.dtype} and has values of {MAX_EXACT} or more, which float32 cannot hold exactly"
            )
        tensors[PREFIX + name] = plain(PREFIX + name, value.float())
    return tensors


def load_module(code: EncoderCode, tensors: Mapping[str, QTensor]) -> nn.Module:
    """Returns a module with the stored weights. Raises WrongShape, which names the weights that do not fit."""
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
            f"{code.config.path}: the stored weights lack {sorted(missing)}, have {sorted(unknown)} which the module "
            f"does not have, and have another shape for {wrong}"
        )
    module.load_state_dict(state)
    return module.eval().requires_grad_(requires_grad=False)


class ModuleEncoder:
    """The `PackedEncoder` that runs a user's module. Immutable; threads may share it."""

    is_batch_invariant = False
    is_one_block = True
    prefixes = ()

    def __init__(self, config: ModuleConfig, modules: Mapping[str, nn.Module], inputs: InputMap | None = None) -> None:
        self.config = config
        self.inputs = inputs or InputMap(config.d_model)
        self._modules = modules
        self.precisions = tuple(modules)
        """The precisions in which the module can run, the most accurate first."""

    @classmethod
    def from_tensors(cls, config: ModuleConfig, tensors: Mapping[str, QTensor], code: EncoderCode) -> "ModuleEncoder":
        """Returns the module with stored weights. Raises WrongShape, and WrongConfig if INT8 lacks torchao."""
        modules = {FP32: load_module(code, tensors)}
        if config.int8:
            modules[INT8] = _to_int8(config, modules[FP32])
        return cls(config, modules, InputMap(config.d_model, tensors))

    def encode(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        """Returns z_BD of unit length, in the caller's order. Raises ValueError for an unknown precision."""
        return functional.normalize(self.vectors(batch, precision), dim=1)

    @torch.no_grad()
    def vectors(self, batch: RaggedBatch, precision: str | None = None) -> Tensor:
        """Returns z_BD as the module returns it, not normalized. Raises ValueError for an unknown precision."""
        return self._vectors(batch.layout.split(batch.ids_T), precision)

    def encode_prefix(self, batch: RaggedBatch, layer: int, precision: str | None = None) -> Tensor:
        """Returns x_T1, the input numbers: nothing lies below the only block."""
        return batch.ids_T[:, None]

    @torch.no_grad()
    def encode_from(self, layer: int, x_TD: Tensor, layout: RaggedLayout, precision: str | None = None) -> Tensor:
        """Returns z_BD of unit length from the numbers x_T1. Raises ValueError for an unknown precision."""
        return functional.normalize(self._vectors(layout.split(x_TD[:, 0]), precision), dim=1)

    def _vectors(self, inputs: list[Tensor], precision: str | None) -> Tensor:
        name = self.precisions[0] if precision is None else precision
        if name not in self._modules:
            raise ValueError(f"precision is {name!r}; expected one of {', '.join(self.precisions)}")
        return check_vectors(self.config.path, self._modules[name](inputs), len(inputs), self.config.d_model)

    def encoding(self, digests: Mapping[str, str], max_tokens: int) -> str:
        """Returns "": the vectors of another process may differ in the last bits."""
        return ""

    @property
    def implementation(self) -> str:
        return "torch"

    def has_same_shape(self, other: PackedEncoder) -> bool:
        """Whether both encoders are the same class from the same source."""
        return self.config.without_labels == other.config.without_labels


def _to_int8(config: ModuleConfig, module: nn.Module) -> nn.Module:
    """Returns a copy with INT8 linear layers: weights quantized per output channel, activations dynamically per row."""
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
    """The family `module`: the setting `encoder` is the import path of a class or function that returns a module."""

    name = FAMILY

    def claims(self, setting: str) -> bool:
        """Whether the setting is an import path of something callable.

        The path of another family's object is not claimed: such an object is not callable. A path that does not import
        is claimed, so that `open` raises the reason.
        """
        if not is_import_path(setting):
            return False
        try:
            return callable(import_attribute(setting))
        except PluginError:
            return True

    def open(self, encoder: str, *, max_tokens: int | None) -> tuple[WholeModule, Inputs]:
        inputs = self.open_inputs(encoder, max_tokens=max_tokens)
        return WholeModule(inputs.code).eval(), inputs

    def open_inputs(self, encoder: str, *, max_tokens: int | None) -> ModuleInputs:
        inputs = ModuleInputs(import_encoder(encoder))
        if max_tokens not in (None, inputs.max_tokens):
            raise WrongConfig(
                f"serving.max_tokens is {max_tokens}, but {encoder} reads inputs of up to {inputs.max_tokens} numbers "
                "and never truncates them: leave serving.max_tokens out"
            )
        return inputs

    def config_from_json(self, text: str) -> ModuleConfig:
        return config_from_json(text)

    def precisions(self, config: ModuleConfig, schemes: Mapping[str, str]) -> tuple[str, ...]:
        return config.precisions

    def pack(self, config: ModuleConfig, tensors: Tensors, inputs: Inputs) -> PackedEncoder:
        if not isinstance(inputs, ModuleInputs) or inputs.code.config.source != config.source:
            raise WrongConfig(
                f"the version was made by {config.shown}, but `encoder` names {inputs.name} here: "
                "use the same source in every process"
            )
        return ModuleEncoder.from_tensors(config, tensors, inputs.code)

    def quantize_trained(self, whole: WholeModule, *, first_layer: int | None, grams: Mapping[str, Tensor]) -> Tensors:
        return {} if first_layer else module_tensors(whole)

    def quantize_initial(self, whole: WholeModule, inputs: Inputs, *, first_layer: int, kept: TensorCache) -> Tensors:
        return module_tensors(whole)

    def restored(self, config: ModuleConfig, tensors: Tensors) -> WholeModule:
        raise WrongConfig(
            f"{config.shown}, is code, and code cannot be handed over: set `encoder` and restart the service"
        )


MODULE: Final = ModuleFamily()
