"""A small encoder of the family in a folder, with a tokenizer of a few words, for tests of the commands."""

import dataclasses
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from model.config import StrataConfig
from model.member import Member, write_member
from tests.lifelong.compress.members import DENSE, dense_strata

WORDS = (
    *("[PAD]", "[CLS]", "[SEP]", "[UNK]"),
    *("please", "play", "stop", "the", "song", "music", "rain", "weather", "today", "loud", "now"),
)

CONFIG: StrataConfig = dataclasses.replace(DENSE, d_model=128)
"""The heads are as wide as MiniLM's heads: two of them fill a group of 64 inputs."""

LINES = [
    '{"text": "please play the song", "label": "music", "stage": "a"}',
    '{"text": "stop the music now", "label": "music", "stage": "a"}',
    '{"text": "rain today", "label": "weather", "stage": "a"}',
    '{"text": "the weather now please", "label": "weather", "stage": "a"}',
]


def tokenizer_json() -> bytes:
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    ends = [("[CLS]", 1), ("[SEP]", 2)]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return str(tokenizer.to_str()).encode()


def write_small(folder: Path, config: StrataConfig = CONFIG) -> str:
    """Writes the encoder, and returns the path by which commands open it."""
    write_member(folder, Member(config=config, max_tokens=24), dense_strata(config), tokenizer_json())
    return str(folder)


def write_lines(folder: Path) -> str:
    """Writes a data set of two classes, and returns its path."""
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(LINES) + "\n")
    return str(folder)
