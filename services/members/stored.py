"""`lifelong model quantize`: rounds an encoder to the weights that replicas run, and measures what it costs.

    Strata --calibrate, GPTQ--> stored weights: INT8 with INT4 inside, or INT4 alone --> cosine with the source

What the folder holds is what a version would ship, so it is read faster than it was made, and to the same bits.
"""

import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from model.calibration import TEXTS, grams, smooth, to_int4
from model.member import Member, write_member
from model.qtensor import QTensor
from model.quantized import QuantizedEncoder
from model.strata import Strata, encode_many
from model.weights import encoder_tensors
from services.members.source import BATCH, Made, Say, Source, compared, cosine, open_source, require_free, step_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """What was made, and the mean cosine of its vectors with the source's in each precision."""

    made: Made
    cosines: dict[str, float]

    def lines(self) -> list[str]:
        cosines = ", ".join(f"{precision} {value:.4f}" for precision, value in self.cosines.items())
        return [*self.made.lines(), f"as served: {cosines}"]

    def fields(self) -> dict[str, Any]:
        return self.made.fields() | {"cosines": self.cosines}


def quantize(encoder: str, out: Path, *, is_int4: bool = False, say: Say) -> Stored:
    """Writes the stored weights: INT8 with INT4 inside, or INT4 alone.

    Raises WrongConfig, and NonFinite for weights beyond their format.
    """
    require_free(out)
    source = open_source(encoder)
    strata, tensors = rounded(source, is_int4=is_int4, say=say)
    served = QuantizedEncoder.from_tensors(strata.config, tensors)
    token_ids = source.tokenizer.encode_many(TEXTS)
    expected_BD = encode_many(source.strata, token_ids, batch_size=BATCH)
    cosines: dict[str, float] = {}
    for precision in served.precisions:
        say(f"measuring {precision}")
        encode = partial(served.encode, precision=precision)
        found_BD = encode_many(encode, token_ids, batch_size=BATCH)
        cosines[precision] = cosine(expected_BD, found_BD)
    member = Member(
        config=strata.config,
        max_tokens=source.tokenizer.max_tokens,
        history=(*source.history, step_of("quantize", {"int4": is_int4, "cosines": cosines})),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_member(out, member, tensors, source.tokenizer_json)
    num_bytes = sum(len(tensor.to_blob()) for tensor in tensors.values())
    made = compared(source, strata.config, out, num_bytes=num_bytes, cosine=cosines[served.precisions[0]])
    return Stored(made=made, cosines=cosines)


def rounded(source: Source, *, is_int4: bool, say: Say) -> tuple[Strata, dict[str, QTensor]]:
    """Returns an encoder that is calibrated, and its weights as they are served. Raises NonFinite."""
    strata = copy.deepcopy(source.strata)  # which calibration changes
    say("calibrating")
    gram_by_name = grams(strata, source.tokenizer)
    say("rounding the weights")
    if is_int4:
        return strata, encoder_tensors(to_int4(strata, gram_by_name))
    return strata, encoder_tensors(strata, grams=smooth(strata, gram_by_name))
