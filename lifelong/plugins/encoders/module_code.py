"""What a torch module of the user has that is an encoder, and how a version names it.

    encoder = "digits:Digits" --import--> class --()--> module --checked on its examples--> EncoderCode
    ModuleConfig: import path, digest of the source, width of the vectors, the head's sizes --> `config` of a manifest

Code comes from the settings of each process alone. A manifest names the import path and a digest of the file in which
the class stands, and a process that has another file refuses the version, as it would make different vectors, perhaps:
nothing in a store is ever imported or unpickled.

The constructor takes no arguments. It is called under a fixed seed, so that weights which are drawn at random are the
same in every process and after every restart; one that was trained before loads its weights itself.

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
    """The class `path`, whose source has the digest `source`, makes vectors of `d_model` numbers.

    Texts become at most `max_inputs` numbers. With `int8`, its linear layers can also run in INT8.
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
            raise WrongConfig(f"path, source and int8 are {self.path!r}, {self.source!r}, {self.int8!r}")

    @property
    def n_layers(self) -> int:
        """A module is one block: a slow round trains all of it, or nothing."""
        return 1

    @property
    def vocab(self) -> int:
        """Its numbers are no tokens."""
        return 0

    @property
    def max_sequence(self) -> int:
        """Longest input, in numbers."""
        return self.max_inputs

    @property
    def frozen_facts(self) -> str:
        """What the vectors depend on besides the weights."""
        return f"{self.path} {self.source}"

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions in which it can run, the most accurate first."""
        return (FP32, INT8) if self.int8 else (FP32,)

    @property
    def shown(self) -> str:
        """The encoder as messages name it."""
        return f"{self.path}, whose source has the digest {self.source[:12]}"

    @property
    def without_labels(self) -> "ModuleConfig":
        """The shape of everything but the rows of the head: equal for versions that can share all else."""
        return dataclasses.replace(self, label_capacity=1)

    def canonical_json(self) -> str:
        """Returns the JSON of all fields, sorted, without spaces."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    def spec_hash(self, inputs_digest: str) -> str:
        """Returns the hex SHA-256 over config and inputs: it is equal if weights are interchangeable."""
        return hashlib.sha256(f"{self.canonical_json()}\n{inputs_digest}".encode()).hexdigest()


def config_from_json(text: str) -> ModuleConfig:
    """Reads the config of a version. Raises WrongConfig."""
    try:
        values = json.loads(text)
        return ModuleConfig(**values)
    except (ValueError, TypeError, RecursionError) as error:
        known = ", ".join(each.name for each in dataclasses.fields(ModuleConfig))
        raise WrongConfig(f"it is {text:.200}; expected the fields {known}") from error


SEED: Final = 0
MAX_INPUTS: Final = 1 << 20
"""The longest input, in numbers, that a class may ask for."""

DTYPES: Final = (torch.float32, torch.float16, torch.bfloat16)
"""What a floating-point weight may be: versions hold float32, which has all values of these."""


@runtime_checkable
class Encoder(Protocol):
    """A `torch.nn.Module` that makes a vector of each event, and says how a text becomes its input.

    `width` is the length of its vectors, `max_inputs` that of its longest input. Each version is compared on `examples`
    before it answers: a few texts as events have them, different ones. A class with `int8 = True` is also served in
    INT8, by torchao, where that is accurate enough and faster.
    """

    width: int
    max_inputs: int
    examples: Sequence[str]

    def read(self, text: str) -> Sequence[int]:
        """Returns the numbers of a text: token ids, pixels, samples. Raises ValueError, which says why, for others."""

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Returns z_BD, float32, a row for each input. An input is an int64 tensor of what `read` has returned.

        A row depends on its own input alone. The module is in evaluation mode, in training too.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderCode:
    """The class that the settings name, and a module that it has made."""

    config: ModuleConfig
    module: nn.Module

    @property
    def encoder(self) -> Encoder:
        """The module, of which `import_encoder` has checked that it is one."""
        return cast("Encoder", self.module)

    def new_module(self) -> nn.Module:
        """Returns a module with the weights that the constructor gives."""
        return copy.deepcopy(self.module)


def import_encoder(path: str) -> EncoderCode:
    """Returns the encoder of an import path such as `digits:Digits`.

    Raises EncoderNotFound where there is none, and WrongConfig where it is not what `Encoder` says.
    """
    if not is_import_path(path):
        raise EncoderNotFound(f"encoder {path!r} is no import path: write module:Class")
    name, _, attribute = path.partition(":")
    try:
        found = getattr(import_module(name), attribute)
    except (ImportError, AttributeError) as error:
        raise EncoderNotFound(
            f"encoder {path!r} does not import: {error}. PYTHONPATH must name the folder of {name.split('.')[0]}, in "
            "every process and on every node"
        ) from error
    module = _made(path, found)
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


def _made(path: str, found: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        try:
            module = found()
        except (TypeError, ValueError, OSError) as error:
            raise WrongConfig(f"encoder {path!r} cannot be made without arguments: {error!r}") from error
    if not isinstance(module, nn.Module) or not isinstance(module, Encoder):
        missing = [name for name in ("width", "max_inputs", "examples", "read", "forward") if not hasattr(module, name)]
        lacks = f"has no {', '.join(missing)}" if missing else "is no torch.nn.Module"
        raise WrongConfig(f"encoder {path!r} {lacks}; `lifelong new encoder` writes one that is complete")
    return module.eval()


def _size(path: str, module: nn.Module, name: str) -> int:
    value = getattr(module, name)
    if type(value) is not int or not 0 < value <= MAX_INPUTS:
        raise WrongConfig(f"encoder {path!r}: {name} is {value!r}; expected a whole number from 1 to {MAX_INPUTS}")
    return value


def _check_weights(path: str, module: nn.Module) -> None:
    """Raises WrongConfig for a weight that float32 does not hold."""
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor) or (value.is_floating_point() and value.dtype not in DTYPES):
            raise WrongConfig(f"encoder {path!r}: {name} is {getattr(value, 'dtype', value)!r}; expected float32")


def _check_examples(code: EncoderCode) -> None:
    """Raises WrongConfig unless the module makes finite vectors of its width of its examples."""
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
    """Returns what `forward` has returned for `num` inputs. Raises WrongConfig where these are no such vectors."""
    if not isinstance(z_BD, Tensor) or z_BD.shape != (num, width) or z_BD.dtype != torch.float32:
        found = f"{z_BD.dtype} {list(z_BD.shape)}" if isinstance(z_BD, Tensor) else type(z_BD).__name__
        raise WrongConfig(f"encoder {path!r}: forward returned {found}; expected torch.float32 {[num, width]}")
    return z_BD
