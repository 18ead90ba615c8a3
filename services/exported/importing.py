"""`lifelong import --model`: puts the version of an exported folder into a store, under a new number.

    folder --verified--> blobs, manifest with a new number --one script--> history; the rollout starts it as a candidate

It answers with the same bits as where it came from. What it knows is in its weights alone: the learner here goes on
from what its own labels have taught it, and publishes versions of that. They and the imported one compete by labels.

Rejected: making it the learner's current version (the learner knows none of its samples, and could neither go on from
it nor compare with it), and the sums of the head beside the weights (`lifelong backup` moves a whole service).
"""

from pathlib import Path

import msgspec

from model.module_code import config_from_json
from model.packed import Inputs
from services.exported.format import BadExport, read_version
from wire.records import HeadSolution, Lineage, NameChanges, WeightManifest
from wire.store import Store


def import_version(store: Store, folder: Path, inputs: Inputs, *, now_ms: int) -> WeightManifest:
    """Stores the version of `folder`, and returns its manifest with the number that it has here.

    Raises BadExport where it was made for another tokenizer or class than the settings name.
    """
    exported, tensors = read_version(folder)
    spec = config_from_json(exported.config).spec_hash(inputs.digest)
    if spec != exported.model_spec:
        raise BadExport(
            f"{folder} was made for another tokenizer or class: `encoder` names {inputs.name} here. Set `encoder` to "
            "the one that it was made with, and restart the service"
        )
    current = store.versions.current()
    erased = store.versions.manifest(current).erased if current else 0
    manifest = msgspec.structs.replace(
        exported,
        version=store.versions.next_number(),
        parent=0,
        epoch=0,
        created_ms=now_ms,
        trained_through={},
        erased=erased,  # of subjects here: whoever imports it vouches for what it has learnt elsewhere
        label_commands=0,
        lineage=Lineage(gap=f"it was imported from {folder.name}, version {exported.version} there"),
        name_changes=NameChanges(),
        solution=HeadSolution(),
    )
    for tensor in tensors.values():
        store.blobs.put(tensor.to_blob())
    store.versions.add(manifest, detail=f"imported from {folder.name}")
    return manifest
