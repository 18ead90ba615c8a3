"""`lifelong encoder check`: is an encoder computed as it was published, and what do INT8 and INT4 cost and give here?

    folder --> what its files say
           --load--> Strata --its vectors, beside published ones--> cosines, lengths
                            --rounded as the learner rounds it--> INT8, INT4 --beside Strata's--> cosines; times

Published vectors are those that sentence-transformers or transformers computed elsewhere, a line of JSON for each text.

Rejected: computing them here (the libraries are no dependency of ours, and a mistake of both would not be seen).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from learner.config import LearnerConfig
from learner.encoder.rounded import rounded_encoder
from model.bert import load_encoder
from model.cost import parameters
from model.forward import native
from model.published import PublishedEncoder, read_published
from model.quantized import QuantizedEncoder
from model.ragged import RaggedBatch
from model.source import encoder_folder
from model.strata import Strata, encode_many
from model.tokenizer import TextTokenizer
from services.encoders.vectors import PublishedVector, read_vectors

FILE = "vectors.jsonl"
"""The published vectors that an encoder's folder may have."""

BATCH = 16

MIN_COSINE = 0.999
"""A lower cosine to a published vector is not rounding: something else was computed."""

MAX_LENGTH_ERROR = 0.02
"""The share by which lengths may differ from published ones."""

SIZES = ((1, 16), (1, 128), (16, 16))
"""Texts, and tokens of each, in the batches that are timed."""

ROUNDS = 5
"""Timed calls of each size, after one that is not timed."""

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
"""The texts on which INT8 and INT4 are compared with full precision; none of them was used to round the weights."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How our vectors agree with others of the same texts. `length_error` is the largest relative difference."""

    texts: int
    lowest_cosine: float
    mean_cosine: float
    length_error: float

    @property
    def is_right(self) -> bool:
        """Whether the difference may be rounding; written so that a NaN is none."""
        return self.lowest_cosine >= MIN_COSINE and self.length_error <= MAX_LENGTH_ERROR


@dataclass(frozen=True, slots=True)
class PrecisionCheck:
    """What a precision costs and gives: `agreement` is that with full precision, `ms` has the median by batch size."""

    name: str
    num_bytes: int
    agreement: Agreement
    ms: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderCheck:
    """The result. `published` is None where there are no vectors; `not_native` has the reasons against our C."""

    folder: str
    kind: str
    shape: dict[str, int]
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
    """Checks an encoder; `vectors` is a file of published ones. Raises ModelError or BadVectors."""
    folder = encoder_folder(encoder)
    found = read_published(folder)
    say("Loading ...")
    strata, tokenizer = load_encoder(encoder)
    published: Agreement | None = None
    path = vectors or folder / FILE
    if vectors or path.is_file():
        say("Comparing with published vectors ...")
        published = _beside(read_vectors(path, width=strata.config.d_model), strata, tokenizer)
    return EncoderCheck(
        folder=str(folder),
        kind=found.kind,
        shape=_shape(found),
        pooling=found.config.pooling,
        normalize=found.config.normalize,
        prefix=found.config.prefix,
        prompts=dict(found.prompts),
        tokenizer=tokenizer.kind,
        max_tokens=tokenizer.max_tokens,
        published=published,
        not_native=native.why_not(found.config),
        threads=torch.get_num_threads(),
        precisions=_precisions(strata, tokenizer, say),
    )


def agreement_of(ours_BD: Tensor, theirs_BD: Tensor) -> Agreement:
    """Compares vectors row by row."""
    cosines_B = torch.cosine_similarity(ours_BD.double(), theirs_BD.double(), dim=1)
    ratio_B = ours_BD.double().norm(dim=1) / theirs_BD.double().norm(dim=1)
    return Agreement(
        texts=len(ours_BD),
        lowest_cosine=float(cosines_B.min()),
        mean_cosine=float(cosines_B.mean()),
        length_error=float((ratio_B - 1).abs().max()),
    )


def _beside(published: Sequence[PublishedVector], strata: Strata, tokenizer: TextTokenizer) -> Agreement:
    theirs_BD = torch.tensor([each.vector for each in published])
    return agreement_of(_vectors(strata.vectors, tokenizer, [each.text for each in published]), theirs_BD)


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
            "fp32", 4 * num_parameters, agreement_of(full_BD, full_BD), _times(strata.vectors, strata)
        )
    say("Rounding the weights ...")
    first_layer = max(0, strata.config.n_layers - LearnerConfig().deepest_layers)
    stored = rounded_encoder(strata, tokenizer, first_layer=first_layer, weights_digest="")
    tensors = {name: each.tensor for name, each in stored.items()}
    quantized = QuantizedEncoder.from_tensors(strata.config, tensors)
    num_bytes = sum(each.entry.num_bytes for each in stored.values())
    checks = [full]
    for precision in quantized.precisions:
        say(f"Timing {precision} ...")

        def encode(batch: RaggedBatch, precision: str = precision) -> Tensor:
            return quantized.vectors(batch, precision)

        agreement = agreement_of(_vectors(encode, tokenizer, TEXTS), full_BD)
        checks.append(PrecisionCheck(precision, num_bytes, agreement, _times(encode, strata)))
    return checks


def _times(encode: Callable[[RaggedBatch], Tensor], strata: Strata) -> dict[str, float]:
    """Returns the median time of a batch in milliseconds, by `texts x tokens`, for the sizes that have positions."""
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
