"""Implements `lifelong search`: finds smaller encoders that fit the tasks and this machine, and trains the chosen ones.

    training texts of the tasks --a part is held out--> held texts: scores      the others: texts to learn from, a head
    source --SandwichDistiller--> supernet --15 encoders, retrained--> which proxy ranks them alike --nsga2--> Front
    a point of the front --distil, sparsify (`services.members.change`)--> STATE_DIR/encoders/search-KEY-..., Trained

    STATE_DIR/search/front.json    the front of the last search, which names the points of the profiles
    STATE_DIR/search/layers.json   the times of layers on this machine (`lifelong.compress.latency`)
    STATE_DIR/search/KEY/          texts.txt, supernet.checkpoint, scores.json, trained.json

KEY is a digest of all on which scores depend. Every result is written at once, and all choices depend on the seed and
the results. So a killed search goes on where it was, and a search with a larger budget continues it. Test texts are
never read.

An encoder is scored as it is served, with the supernet's weights and without retraining, which is only a proxy.
Proxies are compared with the accuracy of some encoders after a short retraining: the accuracy of closed-form heads, the
cosine with the source's vectors, and the number of parameters. Of the first two, the one with the higher Kendall's tau
is used if its tau is at least MIN_TAU. Otherwise each encoder is retrained before it is scored.
"""

import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_options
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec
import torch
from msgspec.structs import replace
from torch import Tensor

from evals.streams.text_sets import text_set
from learner.config import LearnerConfig
from learner.errors import DataError, StateRefused
from learner.fast.ridge import RidgeHead
from lifelong.compress.cost import parameters
from lifelong.compress.distillation import Distiller, DistillOptions, key_of, resume, write_checkpoint
from lifelong.compress.heads import LabelledTexts, head_importance
from lifelong.compress.latency import LayerTimes, gene_precision
from lifelong.compress.search import Evaluate, Point, front, kendall_tau, nsga2, random_search
from lifelong.compress.space import Genes, Space
from lifelong.compress.sparsity import SparseDistiller, Sparsity
from lifelong.compress.supernet import SandwichDistiller, Supernet
from model.calibration import grams
from model.config import StrataConfig
from model.packed import Inputs
from model.quantized import QuantizedEncoder
from model.strata import Strata, encode_many
from model.weights import encoder_tensors
from services.members.adopt import quantize, stored_weights
from services.members.change import TeacherOptions, distil, progress, sparsify
from services.members.source import BATCH, Say, cosine, open_source, write
from services.tune.table import machine
from wire.files import atomic_write

FOLDER: Final = "search"
"""The folder of searches within the state folder."""

ENCODERS: Final = "encoders"
"""The folder of trained encoders within the state folder."""

HELD: Final = 1 / 3
"""The share of a task's scored texts that are held out. The head learns the others."""

MIN_TAU: Final = 0.6
"""Kendall's tau from which on a proxy ranks encoders."""

CHECKPOINT_S: Final = 60.0

PROXIES: Final = ("accuracy", "cosine")

T = TypeVar("T")

SHORT: Final = "retrained"
"""The name of the score after a short retraining, if no proxy is good enough."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchOptions:
    """The options of a search. `budget` and `retrain_steps` may change when a search is continued."""

    source: str = "minilm-l6"
    tasks: tuple[str, ...] = ("support",)
    """Data sets: their training texts train and score the encoders."""
    stored: float = 0.5
    """The largest share of the source's parameters that an encoder stores."""
    tokens: int = 16
    """The length of the texts in service, for the latency."""
    budget: int = 200
    """The encoders that are scored."""
    steps: int = 300
    """The steps of the supernet's training."""
    batch: int = 32
    rate: float = 5e-4
    max_texts: int = 600
    """The texts of each task that score encoders and train their heads."""
    checked: int = 15
    """The encoders that are retrained to compare the proxies."""
    check_steps: int = 60
    """The steps of this retraining. If no proxy is good enough, each encoder is retrained for a third of them."""
    retrain_steps: int = 800
    threads: int = 1
    seed: int = 0


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of an encoder: accuracy on the held texts, mean over the tasks, and cosine with the source.

    `steps` is the number of steps for which it was retrained before.
    """

    genes: Genes
    steps: int
    accuracy: float
    cosine: float


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """An encoder of the front that was distilled from `teacher` for `minutes` on `threads` threads of `machine`."""

    genes: Genes
    folder: str
    teacher: str
    machine: str
    threads: int
    steps: int
    minutes: float
    accuracy: float
    cosine: float
    parameters: int
    megabytes: float

    def line(self) -> str:
        return (
            f"{self.folder}: {self.parameters / 1e6:.2f} M parameters, {self.megabytes:.1f} MB, accuracy"
            f" {self.accuracy:.1%}; teacher {self.teacher}, {self.minutes:.1f} minutes on {self.threads} threads of"
            f" {self.machine}"
        )


class Front(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a search. `accuracy` and `parameters` are the source's, `proxy` is the score of the points."""

    machine: str
    source: str
    tasks: tuple[str, ...]
    accuracy: float
    parameters: int
    taus: dict[str, float]
    proxy: str
    points: tuple[Point, ...]
    trained: tuple[Trained, ...] = ()

    def trained_as(self, genes: Genes) -> Trained | None:
        """Returns the last training of an encoder, if there was one and its folder still exists."""
        found = [each for each in self.trained if each.genes == genes and Path(each.folder).exists()]
        return found[-1] if found else None


def read_front(state_dir: Path) -> Front | None:
    """Returns the front of the last search on this machine; None if there is none. Raises StateRefused."""
    found = _read(state_dir / FOLDER / "front.json", Front)
    return found if found is not None and found.machine == machine() else None


class Split(NamedTuple):
    """A task's scored training texts: the head learns those of `fit`, and `held` are held out."""

    fit: LabelledTexts
    held: LabelledTexts


def split_tasks(
    options: SearchOptions, data: Path | None, tokenizer: Inputs
) -> tuple[list[Split], dict[str, list[int]]]:
    """Returns the scored texts of the tasks, and the tokens of all training texts that are not held out, by text.

    Raises DataError.
    """
    splits: list[Split] = []
    texts: dict[str, None] = {}
    for name in options.tasks:
        whole = text_set(name, data)
        # A line of a file is a text.
        texts |= dict.fromkeys(" ".join(item.text.split()) for item in whole.train)
        rows = {label: row for row, label in enumerate(whole.labels)}
        items = whole.cut(train=options.max_texts, test=0, seed=options.seed).train
        labels_B = torch.tensor([rows[item.label] for item in items])
        token_ids = tokenizer.encode_many([item.text for item in items])
        end = round(HELD * len(items))
        if not 0 < end < len(items):
            raise DataError(f"{name} has {len(items)} training texts; expected some to hold out and some to learn from")
        held = LabelledTexts(token_ids[:end], labels_B[:end])
        splits.append(Split(LabelledTexts(token_ids[end:], labels_B[end:]), held))
    held_ids = {tuple(ids) for split in splits for ids in split.held.token_ids}
    by_text = dict(zip(texts, tokenizer.encode_many(list(texts)), strict=True))
    return splits, {text: ids for text, ids in by_text.items() if tuple(ids) not in held_ids}


class Scorer:
    """Scores encoders as they are served, on the held texts of the tasks."""

    def __init__(self, splits: Sequence[Split], source: Strata) -> None:
        self._splits = splits
        held = [ids for split in splits for ids in split.held.token_ids]
        with torch.no_grad():
            self._expected_BD = encode_many(source, held, batch_size=BATCH)

    def scores(self, encode: Callable[..., Tensor]) -> tuple[float, float]:
        """Returns the mean accuracy of closed-form heads, and the mean cosine with the source's vectors."""
        accuracies: list[float] = []
        found: list[Tensor] = []
        for split in self._splits:
            fit_BD = encode_many(encode, list(split.fit.token_ids), batch_size=BATCH)
            held_BD = encode_many(encode, list(split.held.token_ids), batch_size=BATCH)
            found.append(held_BD)
            accuracies.append(_accuracy(fit_BD, split.fit.labels_B, held_BD, split.held.labels_B))
        return sum(accuracies) / len(accuracies), cosine(self._expected_BD, torch.cat(found))


def _accuracy(fit_BD: Tensor, fit_B: Tensor, held_BD: Tensor, held_B: Tensor) -> float:
    """Returns the accuracy of the learner's closed-form head on the vectors themselves, without random features."""
    labels = list(map(str, fit_B.tolist()))
    scale = fit_BD.shape[1] ** 0.5
    head = RidgeHead(fit_BD.shape[1], len({*labels}), penalty=LearnerConfig().ridge)
    for label in labels:
        head.admit(label)
    head.learn_many(scale * fit_BD, labels)
    rows = head.predict_many(scale * held_BD).argmax(dim=1).tolist()
    right = sum(head.classes[row] == str(label) for row, label in zip(rows, held_B.tolist(), strict=True))
    return float(right / len(rows))


class Search:
    """A search in its folder: it trains the supernet, evaluates encoders, and trains the encoders of the front.

    The constructor reads the texts and trains the supernet, or goes on with its training. Raises DataError,
    WrongConfig, and StateRefused for a damaged file.
    """

    def __init__(self, options: SearchOptions, *, data: Path | None, state_dir: Path, say: Say) -> None:
        self._options = options
        self._state_dir = state_dir
        self._say = say
        torch.set_num_threads(options.threads)
        say("reading the texts")
        self._source = open_source(options.source)
        strata = self._source.strata
        self.space = Space(dense=strata.config, stored=options.stored, num_tokens=options.tokens)
        splits, texts = split_tasks(options, data, self._source.tokenizer)
        self._token_ids = list(texts.values())
        training = DistillOptions(steps=options.steps, batch=options.batch, rate=options.rate, seed=options.seed)
        # These two options may change when a search is continued.
        facts = with_options(options, budget=0, retrain_steps=0)
        self.key = sha256(f"{key_of(strata, strata, self._token_ids, training)} {facts}".encode()).hexdigest()
        self._folder = state_dir / FOLDER / self.key[:12]
        self._folder.mkdir(parents=True, exist_ok=True)
        self._texts = self._folder / "texts.txt"
        with atomic_write(self._texts) as file:
            file.write("\n".join(texts).encode())
        self._scorer = Scorer(splits, strata)
        self._supernet = self._trained_supernet(training, [split.fit for split in splits])
        stored = _read(self._folder / "scores.json", list[Scores]) or []
        self._scores = {(each.genes, each.steps): each for each in stored}
        self._trained = _read(self._folder / "trained.json", list[Trained]) or []
        times_us = _times_by_machine(state_dir / FOLDER / "layers.json").get(machine(), {})
        self._times = LayerTimes(self.space, times_us)
        self.evaluated: list[Point] = []
        """The points that `run` has evaluated."""
        self._ranked_by: tuple[str, dict[str, float]] | None = None

    def run(self) -> Front:
        """Evaluates as many encoders as the budget says by NSGA-II; writes and returns the front."""
        budget, seed = self._options.budget, self._options.seed
        self.evaluated = nsga2(self.space, self._evaluator("search"), budget=budget, seed=seed)
        return self.write_front()

    def baselines(self) -> dict[str, list[Point]]:
        """Returns the points of a search at random, and of one among uniform encoders, with the same budget."""
        found: dict[str, list[Point]] = {}
        for name, draw in (("random", self.space.draw), ("uniform", self.space.uniform)):
            evaluate = self._evaluator(name)
            found[name] = random_search(draw, evaluate, budget=self._options.budget, seed=self._options.seed)
        return found

    def taus(self) -> tuple[str, dict[str, float]]:
        """Returns the score that ranks encoders, and Kendall's tau of every proxy with the retrained accuracy."""
        if self._ranked_by is not None:
            return self._ranked_by
        rng = random.Random(f"check {self._options.seed}")
        draws = (self.space.draw(rng) for _ in range(4 * self._options.checked))
        checked = list(dict.fromkeys(draws))[: self._options.checked]
        before = [self.scored(genes, 0) for genes in checked]
        retrained: list[float] = []
        began_s = time.monotonic()
        for number, genes in enumerate(checked, 1):
            retrained.append(self.scored(genes, self._options.check_steps).accuracy)
            left = _left(began_s, number, len(checked))
            self._say(f"comparing proxies: retrained {number} of {len(checked)}, {left}")
        taus = {name: kendall_tau([getattr(each, name) for each in before], retrained) for name in PROXIES}
        best = max(PROXIES, key=lambda name: taus[name])
        taus["parameters"] = kendall_tau([self.space.parameters(genes) for genes in checked], retrained)
        self._ranked_by = (best if taus[best] >= MIN_TAU else SHORT, taus)
        return self._ranked_by

    def train(self, genes: Genes) -> Trained:
        """Trains an encoder to compute like the source, and writes its folder. A kill costs at most a minute.

        The encoder starts with the supernet's weights. It is trained through the rounding of the kernels; sparse
        matrices become sparse during the training.
        """
        options = self._options
        name = sha256(f"{self.key} {genes.key} {options.retrain_steps}".encode()).hexdigest()[:12]
        out = (self._state_dir / ENCODERS / f"search-{name}").absolute()
        known = [each for each in self._trained if each.folder == str(out)]
        if known and out.exists():
            return known[0]
        # A kill between the end of a training and its record leaves a folder without a record.
        shutil.rmtree(out, ignore_errors=True)
        shaped = out.with_name(f"{out.name}.shape")
        if not shaped.exists():
            dense = self._supernet.extract(replace(genes, sparsity=0.0))
            write(self._source, dense, shaped, "search", {"genes": genes.key})
        times_s: list[float] = []

        def watched(text: str) -> None:
            if text.startswith("step "):
                times_s.append(time.monotonic())
            self._say(text)

        lesson = TeacherOptions(teacher=options.source, texts=(str(self._texts),), threads=options.threads)
        training = DistillOptions(
            steps=options.retrain_steps,
            batch=options.batch,
            rate=options.rate,
            rounded=not genes.sparsity,
            seed=options.seed,
        )
        if genes.sparsity:
            sparsify(str(shaped), out, genes.sparsity, lesson, training, data=None, say=watched)
        else:
            distil(self._coarse(shaped, genes), out, lesson, training, data=None, say=watched)
        config, tensors = stored_weights(str(out), self._say)
        assert isinstance(config, StrataConfig)
        encoder = QuantizedEncoder.from_tensors(config, tensors)
        accuracy, mean_cosine = self._scorer.scores(partial(encoder.encode, precision=gene_precision(genes)))
        step_s = (times_s[-1] - times_s[0]) / max(len(times_s) - 1, 1)
        found = Trained(
            genes=genes,
            folder=str(out),
            teacher=options.source,
            machine=machine(),
            threads=options.threads,
            steps=options.retrain_steps,
            # The pace of the steps: a training that was killed takes as long as one that was not.
            minutes=step_s * options.retrain_steps / 60,
            accuracy=accuracy,
            cosine=mean_cosine,
            parameters=self.space.parameters(genes),
            megabytes=sum(len(tensor.to_blob()) for tensor in tensors.values()) / 1e6,
        )
        self._trained.append(found)
        _write(self._folder / "trained.json", self._trained)
        return found

    def _coarse(self, shaped: Path, genes: Genes) -> str:
        """Returns the folder from which the training starts: rounded to INT4 alone if the genes say so."""
        if not genes.is_int4:
            return str(shaped)
        int4 = shaped.with_name(f"{shaped.name}.int4")
        if not int4.exists():
            quantize(str(shaped), int4, is_int4=True, say=self._say)
        return str(int4)

    def _trained_supernet(self, training: DistillOptions, tasks: Sequence[LabelledTexts]) -> Supernet:
        strata = self._source.strata
        self._say("measuring heads and inputs, and factorising the weights")
        moments = {name: gram.diagonal().clone() for name, gram in grams(strata, self._source.tokenizer).items()}
        ids = torch.cat(list(map(torch.tensor, self._token_ids)))
        supernet = Supernet(
            strata,
            self.space,
            counts_V=torch.bincount(ids, minlength=strata.config.vocab),
            moments=moments,
            importance=head_importance(strata, tasks),
        )
        distiller = SandwichDistiller(supernet.requires_grad_(True), strata, self._token_ids, training)
        path = self._folder / "supernet.checkpoint"
        if resume(path, distiller, self.key):
            self._say(f"the supernet resumes after step {distiller.num_done}")
        began_s = written_s = time.monotonic()
        before = distiller.num_done
        while not distiller.is_done:
            shown = progress(distiller.num_done + 1, training.steps, distiller.step())
            left = _left(began_s, distiller.num_done - before, training.steps - before)
            self._say(f"supernet: {shown}, {left}")
            if time.monotonic() - written_s >= CHECKPOINT_S or distiller.is_done:
                write_checkpoint(path, distiller, self.key)
                written_s = time.monotonic()
        return supernet.requires_grad_(False)

    def _evaluator(self, name: str) -> Evaluate:
        """Returns the function that evaluates an encoder in the search `name`, and shows the progress."""
        proxy, _ = self.taus()
        short_steps = max(self._options.check_steps // 3, 1)
        points: list[Point] = []
        began_s = time.monotonic()

        def evaluate(genes: Genes) -> Point:
            scores = self.scored(genes, short_steps if proxy == SHORT else 0)
            point = Point(
                genes=genes,
                score=scores.cosine if proxy == "cosine" else scores.accuracy,
                share=self.space.share(genes),
                megabytes=self.space.megabytes(genes),
                ms=self._ms(genes),
            )
            points.append(point)
            best = max(each.score for each in points)
            left = _left(began_s, len(points), self._options.budget)
            self._say(f"{name}: encoder {len(points)} of {self._options.budget}, best {proxy} {best:.4f}, {left}")
            return point

        return evaluate

    def scored(self, genes: Genes, steps: int) -> Scores:
        """Returns the scores of an encoder after `steps` of retraining. A measurement is stored."""
        if (genes, steps) not in self._scores:
            strata = self._retrained(genes, steps) if steps else self._supernet.extract(genes)
            encoder = QuantizedEncoder.from_tensors(strata.config, encoder_tensors(strata))
            encode = partial(encoder.encode, precision=gene_precision(genes))
            accuracy, mean_cosine = self._scorer.scores(encode)
            found = Scores(genes=genes, steps=steps, accuracy=accuracy, cosine=mean_cosine)
            self._scores[genes, steps] = found
            _write(self._folder / "scores.json", list(self._scores.values()))
        return self._scores[genes, steps]

    def _retrained(self, genes: Genes, steps: int) -> Strata:
        options = DistillOptions(
            steps=steps, batch=self._options.batch, rate=self._options.rate, seed=self._options.seed
        )
        student = self._supernet.extract(genes).requires_grad_(True)
        arguments = (student, self._source.strata, self._token_ids, options)
        distiller = Distiller(*arguments)
        if genes.sparsity:
            sparsity = Sparsity(share=genes.sparsity, moments=self._supernet.input_moments(genes))
            distiller = SparseDistiller(*arguments, sparsity)
        while not distiller.is_done:
            distiller.step()
        return student.requires_grad_(False)

    def _ms(self, genes: Genes) -> float:
        """Returns the latency of an encoder. A new measurement is stored for later searches on this machine."""
        path = self._state_dir / FOLDER / "layers.json"
        num_known = len(self._times.times_us)
        ms = self._times.ms(genes)
        if len(self._times.times_us) > num_known:
            _write(path, _times_by_machine(path) | {machine(): self._times.times_us})
        return ms

    def write_front(self) -> Front:
        """Writes and returns the front of the points that `run` has evaluated, with the trainings so far."""
        proxy, taus = self.taus()
        source = self._source.strata
        encoder = QuantizedEncoder.from_tensors(source.config, encoder_tensors(source))
        accuracy, _ = self._scorer.scores(encoder.encode)
        found = Front(
            machine=machine(),
            source=self._options.source,
            tasks=self._options.tasks,
            accuracy=accuracy,
            parameters=parameters(source.config).total,
            taus=taus,
            proxy=proxy,
            points=tuple(front(self.evaluated)),
            trained=tuple(self._trained),
        )
        _write(self._state_dir / FOLDER / "front.json", found)
        return found


def _left(began_s: float, num_done: int, num: int) -> str:
    """Returns the time that is left as text, if `num_done` of `num` equal parts have been done since `began_s`."""
    minutes = (time.monotonic() - began_s) / num_done * (num - num_done) / 60
    return f"about {minutes:.0f} min left"


def _times_by_machine(path: Path) -> dict[str, dict[str, float]]:
    return _read(path, dict[str, dict[str, float]]) or {}


def _read(path: Path, kind: type[T]) -> T | None:
    """Reads a file of this module; returns None if there is none. Raises StateRefused if it is damaged."""
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise StateRefused(f"{path} is damaged ({error}); move it away") from error


def _write(path: Path, content: object) -> None:
    with atomic_write(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(content)))
