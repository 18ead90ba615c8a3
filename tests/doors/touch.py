"""A verb of an operator from outside: `touch` notes a number in what the learner knows.

As a program, a learner in a process of its own that follows it: python -m tests.doors.touch ..., with the arguments of
`tests.learner.learner_process`.
"""

import sys
from typing import ClassVar

from learner.release.handlers import Context, register
from learner.state.lineage import add_change
from tests.learner import learner_process
from wire.records import Command, CommandBody, CommandOutcome, ConceptChange, WeightManifest


class Touched(CommandBody, frozen=True, kw_only=True):
    """Notes the number."""

    VERB: ClassVar[str] = "touch"
    IS_KEPT: ClassVar[bool] = True

    number: int


class Touch:
    """Notes each number in the lineage, which goes back with the model and is in every manifest."""

    body: ClassVar[type[CommandBody]] = Touched

    def apply(self, context: Context, command: Command, body: Touched) -> CommandOutcome:
        known = context.learner.knowledge
        known.lineage = add_change(known.lineage, ConceptChange(f"touch {body.number}", command.seq))
        return context.outcome(command, "applied", {"touched": body.number})


def touches(manifest: WeightManifest) -> list[str]:
    """Returns what a version says of the touches that it knows, in their order."""
    return [change.label for change in manifest.lineage.concept_changes if change.label.startswith("touch")]


if __name__ == "__main__":
    register(Touch)
    sys.exit(learner_process.main(*sys.argv[1:]))
