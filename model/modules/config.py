"""The shape of a version whose encoder is a module of the user, and the config of any version by its family.

    ModuleConfig: import path, digest of the source, width of the vectors, the head's sizes --> `config` of a manifest

It has the same questions as `StrataConfig` (`without_labels`, `canonical_json`, `spec_hash`), so whoever needs the head
alone need not know which family a version is of.

Rejected: fields of `StrataConfig` for it (a module has no layers, heads or positions that a version could name).
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Final, TypeAlias

from model.config import StrataConfig
from model.errors import WrongConfig

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


EncoderConfig: TypeAlias = StrataConfig | ModuleConfig


def built_in(config: EncoderConfig) -> StrataConfig:
    """Returns the config of an encoder of the built-in family. Raises WrongConfig for another."""
    if isinstance(config, ModuleConfig):
        raise WrongConfig(f"this is for encoders of the built-in family, and not for {config.shown}")
    return config


def config_from_json(text: str) -> EncoderConfig:
    """Reads the config of a version, whichever family it is of. Raises WrongConfig."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongConfig(f"not JSON: {error}") from error
    if not isinstance(values, dict) or values.get("family") != FAMILY:
        return StrataConfig.from_json(text)
    try:
        return ModuleConfig(**values)
    except TypeError as error:
        known = ", ".join(each.name for each in dataclasses.fields(ModuleConfig))
        raise WrongConfig(f"fields are {sorted(values)}; expected {known}") from error
