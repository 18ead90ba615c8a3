"""The shape of a model as one frozen record: two models with the same canonical JSON can exchange weights.

Every field is read by the code; a technique that is not implemented has no switch. The JSON is in every weight
manifest. The hash of the JSON and the tokenizer's digest is the `model_spec`, which a replica compares for equality.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass

from model.errors import WrongConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class StrataConfig:
    """A post-norm encoder with learned positions and exact GELU, mean pooling, and a random-feature head."""

    schema: int = 1
    """The version of this record; it grows when a field changes its meaning."""

    family: str = "strata"

    vocab: int
    """Rows of the token embedding."""

    d_model: int
    """Width of a token."""

    n_layers: int

    n_heads: int
    """Attention heads; divides `d_model`."""

    d_ff: int
    """Width inside the feed-forward part of a block."""

    max_pos: int = 512
    """Longest sequence, in tokens."""

    type_vocab: int = 2
    """Rows of the segment embedding; texts use row 0."""

    norm_eps: float = 1e-12

    head_features: int = 2048
    """Random features between embedding and classes."""

    label_capacity: int = 256
    """Rows of the head: as many classes can be learnt without a change of shape. A version has as many as it needs."""

    def __post_init__(self) -> None:
        if (self.schema, self.family) != (1, "strata"):
            raise WrongConfig(f"schema {self.schema} of family {self.family!r}; this code reads schema 1 of 'strata'")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int and (type(value) is not int or not 0 < value < 1 << 24):
                raise WrongConfig(f"{field.name} is {value!r}; expected an integer from 1 to {(1 << 24) - 1}")
        if type(self.norm_eps) is not float or not 0 < self.norm_eps < 1:
            raise WrongConfig(f"norm_eps is {self.norm_eps!r}; expected a number between 0 and 1")
        if self.d_model % self.n_heads:
            raise WrongConfig(f"d_model is {self.d_model}; expected a multiple of n_heads = {self.n_heads}")

    @property
    def without_labels(self) -> "StrataConfig":
        """The shape of everything but the rows of the head: equal for versions that can share all else."""
        return dataclasses.replace(self, label_capacity=1)

    def canonical_json(self) -> str:
        """Returns the JSON of all fields, sorted, without spaces: the same text for equal configs."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "StrataConfig":
        """Reads `canonical_json()` back. Raises WrongConfig, naming unknown and missing fields."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise WrongConfig(f"not JSON: {error}") from error
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or values.keys() != names:
            found = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise WrongConfig(f"fields are {found}; expected {sorted(names)}")
        return cls(**values)

    def spec_hash(self, tokenizer_digest: str) -> str:
        """Returns the hex SHA-256 over config and tokenizer: it is equal if weights are interchangeable."""
        return hashlib.sha256(f"{self.canonical_json()}\n{tokenizer_digest}".encode()).hexdigest()


MINILM_L6 = StrataConfig(vocab=30522, d_model=384, n_layers=6, n_heads=12, d_ff=1536)
