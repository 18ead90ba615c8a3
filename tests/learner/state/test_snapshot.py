"""The bytes of a checkpoint: whole, or refused with the reason."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_origin

import msgspec
import pytest
import torch

from learner.errors import CheckpointRefused, CheckpointUnknown
from learner.samples import Waiting
from learner.state.snapshot import FORMAT, Facts, decode, encode
from tests.learner.snapshots import snapshot
from wire.records.record import Record

GOLDEN = Path(__file__).parents[1] / "golden"


def test_a_snapshot_comes_back_as_it_was() -> None:
    back = decode(encode(snapshot(3, value=1.5)))
    assert back.facts == snapshot(3).facts
    assert torch.equal(back.tensors["head.gram"], torch.full((3, 5), 1.5, dtype=torch.float64))


def test_every_prefix_and_every_flipped_bit_is_refused() -> None:
    data = encode(snapshot(3))
    for length in range(0, len(data), 7):
        with pytest.raises(CheckpointRefused):
            decode(data[:length])
    for place in range(0, len(data), 11):
        with pytest.raises(CheckpointRefused):
            decode(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])


def test_a_whole_file_of_another_format_is_refused() -> None:
    old = snapshot(3)
    with pytest.raises(CheckpointUnknown, match="another version"):
        decode(encode(replace(old, facts=msgspec.structs.replace(old.facts, offsets={"topic": "no offset"}))))


def test_what_a_newer_program_wrote_is_refused_by_its_number() -> None:
    new = snapshot(3)
    facts = msgspec.structs.replace(new.facts, format=FORMAT + 1)
    with pytest.raises(CheckpointUnknown, match=f"newer program: format {FORMAT + 1}; this one reads up to {FORMAT}"):
        decode(encode(replace(new, facts=facts)))


def test_what_an_older_program_wrote_is_refused_by_its_number() -> None:
    old = snapshot(3)
    facts = msgspec.structs.replace(old.facts, format=FORMAT - 1)
    with pytest.raises(CheckpointUnknown, match=f"format {FORMAT - 1} is of a program from before release"):
        decode(encode(replace(old, facts=facts)))


def test_every_field_belongs_to_a_format() -> None:
    """A field that was added since the last release needs a new format, with a golden file of its own.

    Otherwise an older program would silently lose what it does not know. The golden file of a format that was not
    released yet changes with the fields.
    """
    known = (GOLDEN / f"facts.v{FORMAT}.txt").read_text().split()
    kinds = (Facts, Waiting)  # the answers that wait are encoded by themselves
    fields = set[str]()
    for kind in kinds:
        fields |= set(fields_of(msgspec.inspect.type_info(kind)))
    assert sorted(fields) == known


def fields_of(kind: Any) -> Iterator[str]:
    """Yields `Class.field`, as it is stored, of every struct in `kind`.

    Records of the wire are left out: they have formats of their own.
    """
    if isinstance(kind, msgspec.inspect.StructType | msgspec.inspect.NamedTupleType):
        owner = get_origin(kind.cls) or kind.cls
        if issubclass(owner, Record):
            return
        for field in kind.fields:
            yield f"{owner.__name__}.{field.encode_name}"
            yield from fields_of(field.type)
    for name in ("types", "item_types"):
        for inner in getattr(kind, name, ()):
            yield from fields_of(inner)
    for name in ("item_type", "key_type", "value_type"):
        if (only := getattr(kind, name, None)) is not None:
            yield from fields_of(only)
