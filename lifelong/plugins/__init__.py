"""What stands behind the doors of the core, by door and name. The core finds it by this table, and imports none of it.

kinds/       kinds of labels: one class, a set of them, a number
inputs/      inputs of events besides texts: features, and what a series of them adds
encoders/    families of encoders: a torch module of the user       heads/    a head of the user
source       the source of a class of the user

The built-in family of encoders and the ridge head are parts of the core (`model`), and listed here like all others.

Packages of others add theirs as entry points of the group `lifelong.<door>`, or are named by an import path.
"""

from collections.abc import Mapping
from typing import Final

BUILT_IN: Final[Mapping[str, Mapping[str, str]]] = {
    "inputs": {
        "features": "lifelong.plugins.inputs.features:FEATURES",
    },
    "kinds": {
        "class": "lifelong.plugins.kinds.classes:CLASS",
        "multilabel": "lifelong.plugins.kinds.sets:MULTILABEL",
        "score": "lifelong.plugins.kinds.scores:SCORE",
    },
    "encoders": {
        "strata": "model.strata_family:STRATA",
        "module": "lifelong.plugins.encoders.module_encoder:MODULE",
    },
    "heads": {"ridge": "model.heads:RIDGE", "own": "lifelong.plugins.heads.own:OWN"},
}
"""The import path of each built-in plug-in, by door and name."""
