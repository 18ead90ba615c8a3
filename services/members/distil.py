"""`lifelong model distill`: an encoder learns from another one, for minutes to hours; a kill costs the last minute.

    student, teacher, texts --Distiller.step ...--> OUT        OUT.checkpoint, now and then, until OUT is written

The same command goes on from the checkpoint, and ends with the same bits as if it had not been killed.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from learner.distillation import Distiller, DistillOptions, Losses, key_of, resume
from learner.distillation import write_checkpoint as write_checkpoint
from model.calibration import grams, smooth
from model.grid import attach_grids
from model.weights import encoder_tensors
from services.members.source import Made, Say, open_source, require_free, write
from services.members.texts import unlabelled


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherOptions:
    """Whom to learn from and on what, and how often to write the checkpoint."""

    teacher: str
    texts: tuple[str, ...]
    every_s: float = 60.0
    threads: int = 1


def distil(
    encoder: str, out: Path, lesson: TeacherOptions, options: DistillOptions, *, data: Path | None, say: Say
) -> Made:
    """Trains the encoder and writes the result. Raises WrongConfig, DataError, or StateRefused for another checkpoint.

    The scales of the inputs are chosen anew first, for the weights as they are now, but those of what has a grid. Where
    training passes the rounding, every matrix gets a grid, and the stored weights on it are what is written.
    """
    require_free(out)
    torch.set_num_threads(lesson.threads)
    source = open_source(encoder)
    token_ids = unlabelled(lesson.texts, data, source.tokenizer)
    teacher = open_source(lesson.teacher).strata
    student = open_source(encoder).strata.requires_grad_(True)
    smooth(student, grams(student, source.tokenizer))
    if options.rounded:
        attach_grids(student, encoder_tensors(student))
    distiller = Distiller(student, teacher, token_ids, options)
    key = key_of(student, teacher, token_ids, options)
    path = out.with_name(f"{out.name}.checkpoint")
    out.parent.mkdir(parents=True, exist_ok=True)
    if resume(path, distiller, key):
        say(f"going on after step {distiller.num_done}")
    written_s = time.monotonic()
    while not distiller.is_done:
        losses = distiller.step()
        say(progress(distiller.num_done, options.steps, losses))
        if time.monotonic() - written_s >= lesson.every_s:
            write_checkpoint(path, distiller, key)
            written_s = time.monotonic()
    made = write(source, student.requires_grad_(False), out, "distill", asdict(lesson) | asdict(options))
    path.unlink(missing_ok=True)
    return made


def progress(num_done: int, num_steps: int, losses: Losses) -> str:
    """Returns what a step has to say.

    >>> progress(3, 10, Losses(0.25, 0.5))
    'step 3 of 10: cosine 0.7500, layers 0.500'
    """
    return f"step {num_done} of {num_steps}: cosine {1 - losses.cosine:.4f}, layers {losses.layers:.3f}"
