"""Folders of small encoders with random weights that `transformers` and `sentence-transformers` write and compute."""

import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from tests.model.published_encoder import make_tokenizer
from tests.required import imported

WIDTH: Final = 64

LONG = "my card is not here, where is it? " * 4
"""A text that is much longer than a local window, and longer than the largest text that the encoders read."""

TEXTS: Final = ("where is my card", "a", "", LONG)

MAX_TOKENS: Final = 90

SIZES: Final[dict[str, Any]] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}

SHAPES: Final[dict[str, dict[str, Any]]] = {
    "modernbert": {"num_attention_heads": 2, "local_attention": 10, "cls_token_id": 2, "sep_token_id": 3},
    "gemma3_text": {
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "query_pre_attn_scalar": 20,
        "sliding_window": 12,
        "sliding_window_pattern": 2,
        "use_bidirectional_attention": True,
    },
    "eurobert": {"num_attention_heads": 2, "num_key_value_heads": 1, "mask_token_id": 1},
}
"""The fields of config.json that are specific to an architecture, by `model_type`."""

SCALED: Final[dict[str, dict[str, Any]]] = {
    "modernbert": {"global_rope_theta": 500.0, "local_rope_theta": 50.0, "global_attn_every_n_layers": 2},
    "gemma3_text": {"rope_theta": 500.0, "rope_local_base_freq": 50.0},
    "eurobert": {"rope_theta": 500.0},
}
"""Other bases and patterns than the defaults, in the fields that releases of `transformers` before 5 write."""


@dataclass(frozen=True)
class Published:
    """A folder, and what sentence-transformers computes for TEXTS from its files."""

    folder: Path
    expected_BD: Tensor


def write_published_by_libraries(
    folder: Path,
    kind: str,
    *,
    pooling: str = "mean",
    dense: tuple[int, ...] = (),
    normalize: bool = True,
    prompt: str = "",
    **fields: Any,
) -> Published:
    """Writes an encoder of an architecture. `dense` are the widths of the Dense modules that follow the pooling.

    `fields` are fields of config.json beside SIZES and SHAPES.
    """
    with warnings.catch_warnings():
        # The libraries warn at import.
        warnings.simplefilter("ignore")
        transformers = imported("transformers")
        sentence_transformers = imported("sentence_transformers")
        models = importlib.import_module("sentence_transformers.sentence_transformer.modules")
        tokenizer = make_tokenizer("bert")
        config = transformers.AutoConfig.for_model(
            kind, vocab_size=tokenizer.get_vocab_size(), **(SIZES | SHAPES[kind] | fields)
        )
        plain = folder / "plain"
        randomised(transformers.AutoModel.from_config(config)).save_pretrained(plain)
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
        ).save_pretrained(plain)
        modules = [models.Transformer(str(plain), max_seq_length=MAX_TOKENS)]
        modules.append(models.Pooling(WIDTH, pooling_mode=pooling))
        width = WIDTH
        for number, next_width in enumerate(dense):
            linear = models.Dense(width, next_width, bias=number > 0, activation_function=torch.nn.Identity())
            modules.append(randomised(linear))
            width = next_width
        if normalize:
            modules.append(models.Normalize())
        prompts = {"prompts": {"query": prompt}, "default_prompt_name": "query"} if prompt else {}
        encoder = sentence_transformers.SentenceTransformer(modules=modules, device="cpu", **prompts)
        encoder.save(str(folder / "published"), create_model_card=False)
        with torch.no_grad():
            expected_BD = torch.from_numpy(encoder.encode(list(TEXTS)))
    return Published(folder / "published", expected_BD)


def randomised(model: Any, *, seed: int = 0) -> Any:
    """Gives a module weights as large as trained ones, so that attention is not uniform and no gain is the default."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)
            else:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()
