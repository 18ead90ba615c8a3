"""Selects texts without labels for a training, each once, and remembers which texts an encoder has seen.

    texts, each with its source and subject --select--> Selected --remember_texts--> the encoder's seen.json
    a subject that is to be forgotten --trained_on--> the encoders that have seen its texts

A source that sends many texts, or one text many times, does not own the training. The texts of an erased subject, and
those that repeat a test text, are counted and left out.
"""

import json
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = "encoders"
"""The folder of trained encoders within the state folder."""

SEEN: Final = "seen.json"

RETIRED: Final = "retired-"
"""The beginning of the name of a folder that has only the `seen.json` of an encoder."""

DIGEST_CHARS: Final = 16
"""Hexadecimal digits of a text's digest in `seen.json`."""


class SourcedText(NamedTuple):
    """A text, the source that sent it, and the keyed digest of its subject ("" for nobody)."""

    text: str
    source: str
    subject: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The largest numbers of training texts: of all sources, and of one source, so that no source dominates."""

    max_texts: int = 100_000
    """The texts that were read last are kept, of all sources and of each."""
    per_source: int = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """The texts of a training, each once, and the numbers of texts that were left out, by reason."""

    texts: Sequence[SourcedText]
    read: int = 0
    empty: int = 0
    repeated: int = 0
    left_out: int = 0
    """Texts that repeat a test text."""
    forgotten: int = 0
    """Texts of subjects that were erased."""
    over_source: int = 0
    older: int = 0

    @property
    def counts(self) -> dict[str, int]:
        reasons = ("empty", "repeated", "left_out", "forgotten", "over_source", "older")
        return {"read": self.read} | {name: getattr(self, name) for name in reasons} | {"used": len(self.texts)}


def select(
    texts: Iterable[SourcedText], limits: Limits, *, left_out: Iterable[str] = (), erased: Collection[str] = ()
) -> Selected:
    """Returns the texts for a training, in the order in which they were read, each once.

    Texts are compared without regard to case and spaces. `left_out` are test texts, `erased` the digests of erased
    subjects. Memory is bounded by the limits, not by the number of texts that are read.
    """
    excluded = {compute_digest(text) for text in left_out}
    kept: OrderedDict[str, SourcedText] = OrderedDict()
    digests_of: defaultdict[str, OrderedDict[str, None]] = defaultdict(OrderedDict)
    counts: Counter[str] = Counter()
    for each in texts:
        counts["read"] += 1
        digest = compute_digest(each.text)
        if not each.text.strip():
            counts["empty"] += 1
        elif each.subject and each.subject in erased:
            counts["forgotten"] += 1
        elif digest in excluded:
            counts["left_out"] += 1
        elif digest in kept:
            counts["repeated"] += 1
        else:
            kept[digest] = each
            own = digests_of[each.source]
            own[digest] = None
            if len(own) > limits.per_source:
                oldest, _ = own.popitem(last=False)
                del kept[oldest]
                counts["over_source"] += 1
        if len(kept) > limits.max_texts:
            oldest, removed = kept.popitem(last=False)
            del digests_of[removed.source][oldest]
            counts["older"] += 1
    return Selected(texts=list(kept.values()), **counts)


def compute_digest(text: str) -> str:
    """Returns the digest of a text, which does not depend on case and spaces.

    >>> compute_digest("Where is  my card?") == compute_digest(" where is my card?")
    True
    """
    return sha256(" ".join(text.casefold().split()).encode("utf-8", "replace")).hexdigest()[:DIGEST_CHARS]


def remember_texts(selected: Selected) -> dict[str, Any]:
    """Returns what an encoder's folder remembers of the texts: their digests, and the number of texts of a subject."""
    subjects = Counter(each.subject for each in selected.texts if each.subject)
    return {"texts": [compute_digest(each.text) for each in selected.texts], "subjects": dict(subjects)}


def trained_on(subject: str, state_dir: Path) -> dict[str, int]:
    """Returns the encoders of the state folder that have seen texts of a subject: folder -> the number of its texts.

    `subject` is the keyed digest of the subject.
    """
    found: dict[str, int] = {}
    for path in sorted((state_dir / FOLDER).glob(f"*/{SEEN}")):
        num = json.loads(path.read_text())["subjects"].get(subject, 0)
        if num:
            found[str(path.parent)] = num
    return found


def retire(folder: Path) -> None:
    """Removes an encoder's folder, but keeps what it says about its texts: later encoders were made from it.

    `seen.json` is moved when nothing else is left, so that a kill loses none of it.
    """
    # Without its config.json, which goes last, the folder would not count as an encoder of a stage any more.
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "config.json"):
        if path.name != SEEN:
            path.unlink()
    seen = folder.with_name(f"{RETIRED}{folder.name}")
    seen.mkdir(exist_ok=True)
    (folder / SEEN).replace(seen / SEEN)
    folder.rmdir()
