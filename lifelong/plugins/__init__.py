"""The built-in plug-ins, by group and name. The core finds a plug-in in this table and imports none directly.

kinds/       kinds of labels: one class, a set of classes, a number
inputs/      inputs of events besides texts: features, features of earlier events of a series, pictures, sounds
encoders/    families of encoders: the user's torch module
heads/       the user's head
source       the digest of the source of a user's class

The built-in families of encoders and the ridge head are parts of the core (`model`). They are in this table, too.

Other packages add plug-ins as entry points of the group `lifelong.<group>`, or settings name them by an import path.
"""

from collections.abc import Mapping
from typing import Final

BUILT_IN: Final[Mapping[str, Mapping[str, str]]] = {
    "inputs": {
        "audio": "lifelong.plugins.inputs.media:AUDIO",
        "features": "lifelong.plugins.inputs.features:FEATURES",
        "image": "lifelong.plugins.inputs.media:IMAGE",
    },
    "kinds": {
        "class": "lifelong.plugins.kinds.classes:CLASS",
        "multilabel": "lifelong.plugins.kinds.sets:MULTILABEL",
        "score": "lifelong.plugins.kinds.scores:SCORE",
    },
    "encoders": {
        "media": "model.media.family:MEDIA",
        "rung": "model.rung:RUNG",
        "static": "model.static:STATIC",
        "strata": "model.strata_family:STRATA",
        "module": "lifelong.plugins.encoders.module_encoder:MODULE",
    },
    "heads": {"ridge": "model.heads:RIDGE", "own": "lifelong.plugins.heads.own:OWN"},
}
"""The import path of each built-in plug-in, by group and name."""
