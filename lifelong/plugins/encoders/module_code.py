"""The protocol of a torch module that is an encoder, its import and its checks, and the config of its versions.

    encoder = "digits:Digits" --import--> class --()--> module --checked on its examples--> EncoderCode
    ModuleConfig: import path, digest of the source, width of the vectors, the head's sizes --> `config` of a manifest

Code is loaded only as the settings of a process say: nothing in a store is ever imported or unpickled. A manifest names
the import path of the class and a digest of the file that defines it. A process that has another file refuses the
version, because the other code might make different vectors.

The constructor takes no arguments. It is called under a fixed seed, so random initial weights are the same in every
process and after every restart. A class with pretrained weights loads them in its constructor.

Shape suffixes: B inputs, D width.
"""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from lifelong.plugins.source import source_digest
from model.errors import EncoderNotFound, WrongConfig
from model.source import is_import_path

FAMILY: Final = "module"
FP32: Final = "fp32"
INT8: Final = "int8"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModuleConfig:
    """The config of a version whose encoder is a user's module, as the manifest stores it.

    - `path`: the import path of the class
    - `source`: the digest of the file that defines the class
    - `d_model`: the width of its vectors
    - `max_inputs`: the length of its longest input, in numbers
    - `int8`: whether its linear layers can also run in INT8
    - `head_features`, `label_capacity`: the sizes of the head
    """

    schema: int = 1
    family: str = FAMILY
    path: str
    source: str
    d_model: int
    max_inputs: int
    int8: bool = False
    head_features: int = 2048
    label_capacity: int = 256

    def __post_init__(self) -> None:
        if (self.schema, self.family) != (1, FAMILY):
            raise WrongConfig(f"schema {self.schema} of family {self.family!r}; this code reads schema 1 of {FAMILY!r}")
        for name in ("d_model", "max_inputs", "head_features", "label_capacity"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise WrongConfig(f"{name} is {value!r}; expected a whole number of at least 1")
        if type(self.path) is not str or type(self.source) is not str or type(self.int8) is not bool:
            raise WrongConfig(
                f"path, source and int8 are {self.path!r}, {self.source!r}, {self.int8!r}; "
                "expected two strings and a bool"
            )

    @property
    def n_layers(self) -> int:
        """The number of blocks. A module is one block: a slow round trains all of it or nothing."""
        return 1

    @property
    def vocab(self) -> int:
        """The size of the vocabulary: 0, since the inputs of a module are not tokens."""
        return 0

    @property
    def max_sequence(self) -> int:
        """The length of the longest input, in numbers."""
        return self.max_inputs

    @property
    def frozen_facts(self) -> str:
        """The import path and the source digest: the vectors depend on them as well as on the weights."""
        return f"{self.path} {self.source}"

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions in which the module can run, the most accurate first."""
        return (FP32, INT8) if self.int8 else (FP32,)

    @property
    def shown(self) -> str:
        """The name of the encoder in messages."""
        return f"{self.path}, whose source has the digest {self.source[:12]}"

    @property
    def without_labels(self) -> "ModuleConfig":
        """The config without the number of labels. It is equal for versions that can share everything but the head."""
        return dataclasses.replace(self, label_capacity=1)

    def canonical_json(self) -> str:
        """Returns all fields as JSON, sorted, without spaces."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    def spec_hash(self, inputs_digest: str) -> str:
        """Returns the hex SHA-256 of the config and the inputs. It is equal if weights are interchangeable."""
        return hashlib.sha256(f"{self.canonical_json()}\n{inputs_digest}".encode()).hexdigest()


def config_from_json(text: str) -> ModuleConfig:
    """Reads the config of a version. Raises WrongConfig."""
    try:
        values = json.loads(text)
        return ModuleConfig(**values)
    except (ValueError, TypeError, RecursionError) as error:
        known = ", ".join(each.name for each in dataclasses.fields(ModuleConfig))
        raise WrongConfig(f"the config is {text:.200}; expected the fields {known}") from error


SEED: Final = 0
"""The seed under which the constructor is called."""

MAX_INPUTS: Final = 1 << 20
"""The largest `max_inputs` and the largest `width` that a class may have."""

DTYPES: Final = (torch.float32, torch.float16, torch.bfloat16)
"""The dtypes of floating-point weights that a version can store: float32 holds all values of these exactly."""


@runtime_checkable
class Encoder(Protocol):
    """A `torch.nn.Module` that turns a text into numbers (`read`) and the numbers into a vector (`forward`).

    - `width`: the length of its vectors
    - `max_inputs`: the length of its longest input, in numbers
    - `examples`: a few different texts, typical of the events. Every version is compared on them before it answers.

    A class with `int8 = True` is also served in INT8, by torchao, if that is accurate enough and faster.
    """

    width: int
    max_inputs: int
    examples: Sequence[str]

    def read(self, text: str) -> Sequence[int]:
        """Returns the numbers of a text: token ids, pixels, samples.

        Raises ValueError with the reason if the text cannot be read.
        """

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Returns z_BD, float32, a row for each input. An input is an int64 tensor of the numbers from `read`.

        A row must depend on its own input only. The module is in evaluation mode, during training too.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderCode:
    """The user's class, as its config, and an instance of it with the constructor's weights."""

    config: ModuleConfig
    module: nn.Module

    @property
    def encoder(self) -> Encoder:
        """The module as an `Encoder`. `import_encoder` has checked that it is one."""
        return cast("Encoder", self.module)

    def new_module(self) -> nn.Module:
        """Returns a new module with the constructor's weights."""
        return copy.deepcopy(self.module)


def import_encoder(path: str) -> EncoderCode:
    """Returns the encoder at an import path such as `digits:Digits`.

    Raises EncoderNotFound if the path does not import, and WrongConfig if the class does not follow `Encoder`.
    """
    if not is_import_path(path):
        raise EncoderNotFound(f"encoder {path!r} is not an import path: write module:Class")
    name, _, attribute = path.partition(":")
    try:
        found = getattr(import_module(name), attribute)
    except (ImportError, AttributeError) as error:
        raise EncoderNotFound(
            f"encoder {path!r} does not import: {error}. PYTHONPATH must name the folder of {name.split('.')[0]}, in "
            "every process and on every node"
        ) from error
    module = _instantiate(path, found)
    config = ModuleConfig(
        path=path,
        source=source_digest(found, f"encoder {path!r}"),
        d_model=_size(path, module, "width"),
        max_inputs=_size(path, module, "max_inputs"),
        int8=bool(getattr(module, "int8", False)),
    )
    _check_weights(path, module)
    code = EncoderCode(config=config, module=module)
    _check_examples(code)
    return code


def _instantiate(path: str, found: Any) -> nn.Module:
    """Returns an instance in evaluation mode. Raises WrongConfig if it is not an `Encoder`."""
    # Seeding must not change the random numbers of the rest of the process.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        try:
            module = found()
        except (TypeError, ValueError, OSError) as error:
            raise WrongConfig(f"encoder {path!r} cannot be made without arguments: {error!r}") from error
    if not isinstance(module, nn.Module) or not isinstance(module, Encoder):
        missing = [name for name in ("width", "max_inputs", "examples", "read", "forward") if not hasattr(module, name)]
        lacks = f"has no {', '.join(missing)}" if missing else "is not a torch.nn.Module"
        raise WrongConfig(f"encoder {path!r} {lacks}; `lifelong new encoder` writes one that is complete")
    return module.eval()


def _size(path: str, module: nn.Module, name: str) -> int:
    value = getattr(module, name)
    if type(value) is not int or not 0 < value <= MAX_INPUTS:
        raise WrongConfig(f"encoder {path!r}: {name} is {value!r}; expected a whole number from 1 to {MAX_INPUTS}")
    return value


def _check_weights(path: str, module: nn.Module) -> None:
    """Raises WrongConfig for a weight whose dtype cannot be stored as float32 exactly."""
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor) or (value.is_floating_point() and value.dtype not in DTYPES):
            raise WrongConfig(f"encoder {path!r}: {name} is {getattr(value, 'dtype', value)!r}; expected float32")


def _check_examples(code: EncoderCode) -> None:
    """Raises WrongConfig unless the module encodes its examples as float32 vectors of its width."""
    path = code.config.path
    examples = code.encoder.examples
    if isinstance(examples, str) or not examples or not all(isinstance(text, str) for text in examples):
        raise WrongConfig(f"encoder {path!r}: examples are {examples!r:.80}; expected a few texts of events")
    try:
        inputs = [torch.tensor(list(code.encoder.read(text)), dtype=torch.int64) for text in examples]
        with torch.no_grad():
            z_BD = code.encoder.forward(inputs)
    except (ValueError, TypeError, RuntimeError) as error:
        raise WrongConfig(f"encoder {path!r} cannot encode its examples: {error!r}") from error
    check_vectors(path, z_BD, len(inputs), code.config.d_model)


def check_vectors(path: str, z_BD: object, num: int, width: int) -> Tensor:
    """Returns the result of `forward`. Raises WrongConfig unless it is a float32 tensor of shape [num, width]."""
    if not isinstance(z_BD, Tensor) or z_BD.shape != (num, width) or z_BD.dtype != torch.float32:
        found = f"{z_BD.dtype} {list(z_BD.shape)}" if isinstance(z_BD, Tensor) else type(z_BD).__name__
        raise WrongConfig(f"encoder {path!r}: forward returned {found}; expected torch.float32 {[num, width]}")
    return z_BD
