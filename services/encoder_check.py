"""Implements `lifelong encoder check`: are the vectors of an encoder right, and how fast is it on this machine?

    folder --> facts from its files
           --load--> Strata --vectors, compared with published vectors--> cosines, lengths
                            --rounded as the learner rounds it--> INT8, INT4 --compared with Strata's--> cosines; times
    class --import, its examples--> vectors alone and together --> do they depend on each other?
          --float32, INT8 by torchao--> cosines, times of batches

Published vectors are a reference that sentence-transformers or transformers computed elsewhere. Their file has a line
of JSON for each text; at most MAX_VECTORS are read:

    {"text": "where is my card", "vector": [0.0371, -0.0214, ...]}

A class that does not implement the protocol `Encoder` is refused when it is imported, with the reason.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import torch
from torch import Tensor, nn

from learner.config import LearnerConfig
from learner.encoder.rounded import rounded_encoder
from lifelong.compress.cost import parameters
from model.bert import load_encoder
from model.config import StrataConfig
from model.encoders import find_family, open_encoder
from model.forward import native
from model.packed import PackedEncoder
from model.plan import build_plan
from model.published import PublishedEncoder, read_published
from model.quantized import QuantizedEncoder
from model.ragged import RaggedBatch
from model.source import encoder_folder
from model.strata import Strata, encode_many
from model.tokenizer import TextTokenizer

FILE = "vectors.jsonl"
"""Name of the file with published vectors in an encoder's folder."""

BATCH = 16

MIN_COSINE = 0.999
"""Rounding errors keep the cosine to a published vector above this. A lower cosine is an error of the computation."""

MAX_LENGTH_ERROR = 0.02
"""Largest relative difference between the length of a vector and the length of the published vector."""

SIZES = ((1, 16), (1, 128), (16, 16))
"""Sizes of the timed batches: number of texts, and tokens per text."""

ROUNDS = 5
"""Number of timed calls for each size, after a call that is not timed."""

TEXTS = (
    "hi",
    "Where is my card?",
    "I was charged twice for the same order, and nobody answers my messages.",
    "turn the lights off in the kitchen",
    "Kann ich den Termin auf n\u00e4chste Woche verschieben?",
    "Je voudrais r\u00e9server une table pour quatre personnes ce soir.",
    "\u00bfCu\u00e1nto cuesta enviar un paquete a Argentina?",
    "\u6211\u60f3\u77e5\u9053\u660e\u5929\u7684\u5929\u6c14",
    "The pump stopped at 14:32 with error E-071; pressure had been rising for an hour before that.",
    "The committee met on Tuesday to discuss the budget. It decided to postpone the new library, since the costs of "
    "the bridge had risen again, and asked the treasurer for a report by the end of the month.",
)
"""Texts for the comparison of INT8 and INT4 with full precision. None of them was used to round the weights."""

MAX_VECTORS = 1_024

MODULE_BATCHES: Final = (1, 16, 64)
"""Number of inputs in each timed batch."""

MAX_DEPENDENCE: Final = 1e-3
"""Rounding errors keep the difference between a vector computed alone and in a batch below this. A larger difference
means that the vector depends on the other inputs."""


class PublishedVector(msgspec.Struct, frozen=True):
    """A line of the file of published vectors."""

    text: str
    vector: list[float]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How our vectors agree with a reference for the same texts.

    `length_error` is the largest relative difference of the lengths of two vectors.
    """

    texts: int
    lowest_cosine: float
    mean_cosine: float
    length_error: float

    @property
    def is_right(self) -> bool:
        """Whether rounding can explain the differences. It is False for NaN."""
        return self.lowest_cosine >= MIN_COSINE and self.length_error <= MAX_LENGTH_ERROR


@dataclass(frozen=True, slots=True)
class PrecisionCheck:
    """The size of the weights in a precision, the agreement with full precision, and median times by batch size."""

    name: str
    num_bytes: int
    agreement: Agreement
    ms: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderCheck:
    """The result of the check of an encoder's folder.

    - `parts`: what its layers consist of, such as `post-norm LayerNorm, gelu, learned positions`.
    - `published`: agreement with the published vectors; None if there are none.
    - `not_native`: the reasons why our C implementation cannot compute the encoder.
    """

    folder: str
    kind: str
    shape: dict[str, int]
    parts: str
    pooling: str
    normalize: bool
    prefix: str
    prompts: dict[str, str]
    tokenizer: str
    max_tokens: int
    published: Agreement | None
    not_native: list[str]
    threads: int
    precisions: list[PrecisionCheck]

    @property
    def is_right(self) -> bool:
        return self.published is None or self.published.is_right


def check(encoder: str, *, vectors: Path | None, say: Callable[[str], None]) -> EncoderCheck:
    """Checks an encoder. `vectors` is a file of published vectors, by default the file in the encoder's folder.

    Raises ModelError or BadVectors.
    """
    folder = encoder_folder(encoder)
    found = read_published(folder)
    say("Loading ...")
    strata, tokenizer = load_encoder(encoder)
    published: Agreement | None = None
    path = vectors or folder / FILE
    if vectors or path.is_file():
        say("Comparing with published vectors ...")
        published = _compare_published(read_vectors(path, width=strata.config.d_model), strata, tokenizer)
    return EncoderCheck(
        folder=str(folder),
        kind=found.kind,
        shape=_shape(found),
        parts=_parts(found.config),
        pooling=found.config.pooling,
        normalize=found.config.normalize,
        prefix=found.config.prefix,
        prompts=dict(found.prompts),
        tokenizer=tokenizer.kind,
        max_tokens=tokenizer.max_tokens,
        published=published,
        not_native=native.why_unavailable(found.config),
        threads=torch.get_num_threads(),
        precisions=_precisions(strata, tokenizer, say),
    )


def compare_vectors(ours_BD: Tensor, theirs_BD: Tensor) -> Agreement:
    """Returns how two sets of vectors agree, compared row by row."""
    cosines_B = torch.cosine_similarity(ours_BD.double(), theirs_BD.double(), dim=1)
    ratio_B = ours_BD.double().norm(dim=1) / theirs_BD.double().norm(dim=1)
    return Agreement(
        texts=len(ours_BD),
        lowest_cosine=float(cosines_B.min()),
        mean_cosine=float(cosines_B.mean()),
        length_error=float((ratio_B - 1).abs().max()),
    )


def _compare_published(published: Sequence[PublishedVector], strata: Strata, tokenizer: TextTokenizer) -> Agreement:
    theirs_BD = torch.tensor([line.vector for line in published])
    return compare_vectors(_vectors(strata.vectors, tokenizer, [line.text for line in published]), theirs_BD)


@torch.no_grad()
def _vectors(encode: Callable[[RaggedBatch], Tensor], tokenizer: TextTokenizer, texts: Sequence[str]) -> Tensor:
    return encode_many(encode, tokenizer.encode_many(texts), batch_size=BATCH)


def _precisions(strata: Strata, tokenizer: TextTokenizer, say: Callable[[str], None]) -> list[PrecisionCheck]:
    """Returns the checks of full precision, INT8 and INT4."""
    full_BD = _vectors(strata.vectors, tokenizer, TEXTS)
    num_parameters = parameters(strata.config).total
    say("Timing full precision ...")
    with torch.no_grad():
        full = PrecisionCheck(
            "fp32", 4 * num_parameters, compare_vectors(full_BD, full_BD), _time_batches(strata.vectors, strata)
        )
    say("Rounding the weights ...")
    # The blocks that the learner may train are rounded as in training.
    first_layer = max(0, strata.config.n_layers - LearnerConfig().deepest_layers)
    stored = rounded_encoder(strata, tokenizer, first_layer=first_layer, weights_digest="")
    tensors = {name: tensor.tensor for name, tensor in stored.items()}
    quantized = QuantizedEncoder.from_tensors(strata.config, tensors)
    num_bytes = sum(tensor.entry.num_bytes for tensor in stored.values())
    checks = [full]
    for precision in quantized.precisions:
        say(f"Timing {precision} ...")

        def encode(batch: RaggedBatch, precision: str = precision) -> Tensor:
            return quantized.vectors(batch, precision)

        agreement = compare_vectors(_vectors(encode, tokenizer, TEXTS), full_BD)
        checks.append(PrecisionCheck(precision, num_bytes, agreement, _time_batches(encode, strata)))
    return checks


def _time_batches(encode: Callable[[RaggedBatch], Tensor], strata: Strata) -> dict[str, float]:
    """Returns the median time of a batch in milliseconds, by `texts x tokens`, for sizes that the encoder accepts."""
    times: dict[str, float] = {}
    for num_texts, num_tokens in SIZES:
        if num_tokens > strata.config.max_sequence:
            continue
        tokens = [index * 7_919 % strata.config.vocab for index in range(num_texts * num_tokens)]
        ids = [tokens[start : start + num_tokens] for start in range(0, len(tokens), num_tokens)]
        encode(RaggedBatch.of(ids))
        taken_s: list[float] = []
        for _ in range(ROUNDS):
            start_s = time.perf_counter()
            encode(RaggedBatch.of(ids))
            taken_s.append(time.perf_counter() - start_s)
        times[f"{num_texts} x {num_tokens}"] = 1_000 * median(taken_s)
    return times


def _shape(found: PublishedEncoder) -> dict[str, int]:
    config = found.config
    return {
        "layers": config.n_layers,
        "width": config.d_model,
        "heads": config.n_heads,
        "inner": config.d_ff,
        "vocabulary": config.vocab,
        "positions": config.max_sequence,
        "parameters": parameters(config).total,
    }


def _parts(config: StrataConfig) -> str:
    """Returns a description of what the layers consist of."""
    norm = "RMSNorm" if config.norm == "rms" else "LayerNorm"
    parts = [f"{config.norm_place}-norm {norm}", config.activation]
    if config.norm_heads:
        parts.insert(1, "normalised queries and keys")
    if config.positions == "rope":
        bases = sorted({config.layer(index).rope_base for index in range(config.n_layers)})
        parts.append(f"rotary positions of base {' and '.join(f'{base:g}' for base in bases)}")
    else:
        parts.append("learned positions")
    num_local = sum(bool(block.masked_spans) for block in build_plan(config).blocks)
    if num_local:
        windows = ", ".join(str(span.window) for span in config.spans)
        parts.append(f"{num_local} layers see {windows} tokens to each side")
    return ", ".join(parts)


class BadVectors(ValueError):
    """The file of published vectors cannot be read, or has vectors of another width."""


def read_vectors(path: Path, *, width: int) -> list[PublishedVector]:
    """Returns the published vectors of a file, in its order. Raises BadVectors, naming the line."""
    published: list[PublishedVector] = []
    try:
        with path.open("rb") as file:
            for line in file:
                each = msgspec.json.decode(line, type=PublishedVector)
                if len(each.vector) != width:
                    raise BadVectors(
                        f"{path}, line {len(published) + 1}: {len(each.vector)} numbers; a vector has {width}"
                    )
                published.append(each)
                if len(published) == MAX_VECTORS:
                    break
    except (OSError, msgspec.DecodeError) as error:
        raise BadVectors(f"{path}, line {len(published) + 1}: {error}") from error
    if not published:
        raise BadVectors(f"{path} has no vectors")
    return published


@dataclass(frozen=True, kw_only=True, slots=True)
class ModuleCheck:
    """The result of the check of a class.

    `dependence` is the largest difference in a component of a unit vector between the input alone and in a batch.
    """

    path: str
    source: str
    width: int
    max_inputs: int
    parameters: int
    trained: int
    """Number of parameters that slow rounds train."""
    bytes: int
    dependence: float
    cosines: dict[str, float]
    """The lowest cosine to the vectors in float32, by precision."""
    ms: dict[str, dict[str, float]]
    """Median times of batches in milliseconds, by precision and number of inputs."""

    @property
    def is_right(self) -> bool:
        """Whether each vector depends only on its own input. It is False for NaN."""
        return self.dependence <= MAX_DEPENDENCE

    def fields(self) -> dict[str, Any]:
        return asdict(self) | {"is_right": self.is_right}

    def lines(self) -> list[str]:
        verdict = "right" if self.is_right else "WRONG: a vector must depend only on its own input"
        lines = [
            f"class       {self.path}, source {self.source[:12]}",
            f"vectors     {self.width} wide, from inputs of up to {self.max_inputs} numbers",
            f"weights     {self.parameters:,}, of which slow rounds train {self.trained:,}; {self.bytes:,} bytes",
            f"alone       differs by up to {self.dependence:.1e} from the same input in a batch: {verdict}",
        ]
        for precision, ms in self.ms.items():
            times = ", ".join(f"{size}: {each:.2f} ms" for size, each in ms.items())
            lines.append(f"{precision:<11} lowest cosine {self.cosines[precision]:.4f}; a batch of {times}")
        return lines


def check_module(path: str) -> ModuleCheck:
    """Returns the result of checking the encoder class at an import path. Raises EncoderNotFound or WrongConfig."""
    whole, inputs = open_encoder(path)
    family = find_family(whole.config)
    tensors = family.quantize_trained(whole, first_layer=None, grams={})
    encoder = family.pack(whole.config, tensors, inputs)
    examples = inputs.encode_many(inputs.probe_texts)
    full_BD = encoder.encode(RaggedBatch.of(examples))
    alone_BD = torch.cat([encoder.encode(RaggedBatch.of([example])) for example in examples])
    others = {name: encoder.encode(RaggedBatch.of(examples), name) for name in encoder.precisions}
    return ModuleCheck(
        path=path,
        source=inputs.digest,
        width=whole.config.d_model,
        max_inputs=inputs.max_tokens,
        parameters=_count(list(whole.parameters())),
        trained=_count(list(whole.trainable(0))),
        bytes=sum(len(tensor.to_blob()) for tensor in tensors.values()),
        dependence=float((full_BD - alone_BD).abs().max()),
        cosines={name: float(torch.cosine_similarity(full_BD, z_BD).min()) for name, z_BD in others.items()},
        ms={name: _time_module_batches(encoder, examples, name) for name in encoder.precisions},
    )


def _count(parameters: list[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _time_module_batches(encoder: PackedEncoder, examples: list[list[int]], precision: str) -> dict[str, float]:
    times: dict[str, float] = {}
    for size in MODULE_BATCHES:
        batch = RaggedBatch.of([examples[index % len(examples)] for index in range(size)])
        encoder.encode(batch, precision)
        taken_s: list[float] = []
        for _ in range(ROUNDS):
            start_s = time.perf_counter()
            encoder.encode(batch, precision)
            taken_s.append(time.perf_counter() - start_s)
        times[str(size)] = 1_000 * median(taken_s)
    return times
