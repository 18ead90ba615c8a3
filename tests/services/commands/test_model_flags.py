"""The flags of the longer commands have the defaults of what they set."""

from lifelong.compress.distillation import DistillOptions
from services.commands.model import ConvertFlags, DistillFlags, PruneFlags
from services.members.change import ConvertOptions, PruneOptions


def test_defaults_are_those_of_the_options() -> None:
    assert ConvertFlags().enough == ConvertOptions().enough
    assert ConvertFlags().max_texts == ConvertOptions().max_texts
    assert PruneFlags().share == PruneOptions().share
    assert DistillFlags().rate == DistillOptions(steps=1).rate
