"""The file from which a distillation goes on after its process was killed.

    Distiller.tensors --write--> one safetensors file, with the steps done and the key of the run --resume--> Distiller

The key is a digest of everything that the result depends on. A file with another key belongs to another run; it is
refused, so that nobody's hours are overwritten by a slip of an option.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import safetensors
from safetensors.torch import save

from learner.distill.distiller import Distiller, DistillOptions
from learner.encoder.top import lower_digests
from learner.errors import StateRefused
from model.strata import Strata
from wire.files import atomic_write


def key_of(student: Strata, teacher: Strata, token_ids: Sequence[list[int]], options: DistillOptions) -> str:
    """Returns the key of a run: equal keys give equal results, from the untrained student on."""
    digest = sha256()
    for strata in (student, teacher):
        digest.update(f"{strata.config.canonical_json()}\n{lower_digests(strata)[-1]}\n".encode())
    digest.update(f"{options}\n{json.dumps(list(token_ids))}".encode())
    return digest.hexdigest()


def write(path: Path, distiller: Distiller, key: str) -> None:
    """Writes the state of the distillation in place of an earlier one."""
    metadata = {"key": key, "num_done": str(distiller.num_done)}
    tensors = {name: value.contiguous() for name, value in distiller.tensors().items()}
    with atomic_write(path, is_synced=True) as file:
        file.write(save(tensors, metadata))


def resume(path: Path, distiller: Distiller, key: str) -> bool:
    """Restores the state that `path` holds, if there is such a file. Raises StateRefused for a file of another run."""
    if not path.exists():
        return False
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                raise StateRefused(f"{path} belongs to a distillation with other options or texts; move it away first")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
            distiller.restore(tensors, int(metadata["num_done"]))
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise StateRefused(f"{path} is no whole checkpoint ({error}); move it away first") from error
    return True
