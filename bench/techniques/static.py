"""Measures row `static`: an encoder that is a table of vectors of tokens, distilled from MiniLM.

texts of four tasks, without labels --train_static--> table --closed-form heads--> accuracy by task, as a share of
MiniLM's with the same heads; texts a second of one thread, with and without the tokenizer; stored bytes

TF-IDF of words and pairs of words, with a linear classifier, is the peer that needs no distillation.

A second table lies in MiniLM's own space: the rung of a brown-out (`model.rung`), under the head that was fitted to
MiniLM's vectors.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import mean

import torch

from bench.harness.case import Bar, Run, Technique
from bench.harness.process import BUILD
from bench.harness.texts import data_folder
from bench.harness.timing import fastest_in_turns_s, one_thread
from bench.techniques.tasks import load_tasks, served_encoder, task_accuracy
from evals.results.row import Peer, Row
from evals.streams.text_sets import TextSet
from lifelong.compress.static import StaticOptions
from model.config import StaticConfig
from model.encoders import find_family, open_encoder, packed
from model.packed import Inputs, PackedEncoder, WholeEncoder
from model.ragged import RaggedBatch
from model.rung import STATIC_PRECISION
from model.static import StaticTable, WholeStatic
from services.members.rung import add_rung
from services.members.train import train_static

TEACHER = "minilm-l6"

TASKS = ("clinc150", "snips", "trec6", "sst2")

BATCH = 64
"""Texts of a timed batch: what a replica takes from a full queue."""

FOLDER = BUILD / "bench" / "static"
"""The distilled encoders, one for each seed."""


def measure(run: Run) -> Iterator[Row]:
    """Yields the size, the rate, and the retained accuracy. A quick run has a random table, and no accuracy.

    Raises Skip without data.
    """
    teacher, inputs = open_encoder(TEACHER, max_tokens=64)
    teacher.requires_grad_(False)
    sets = load_tasks(run, TASKS, train=20_000, test=5_000)
    if run.is_quick:
        student: WholeEncoder = _untrained(run.seed)
    else:
        options = StaticOptions(seed=run.seed)
        made = train_static(TEACHER, TASKS, options, data=data_folder(), folder=FOLDER, say=run.say)
        student, inputs = open_encoder(made.folder, max_tokens=64)
    num_bytes = sum(
        len(tensor.to_blob())
        for tensor in find_family(student.config).quantize_trained(student, first_layer=None, grams={}).values()
    )
    yield run.row("size", round(num_bytes / 1e6, 2))
    yield from rates(run, student, teacher, inputs, sets)
    if run.is_quick:
        return
    ours, dense, tf_idf = (
        [score(task) for task in sets]
        for score in (
            partial(task_accuracy, served_encoder(student, inputs)),
            partial(task_accuracy, served_encoder(teacher, inputs)),
            tf_idf_accuracy,
        )
    )
    kept = _shares(ours, dense)
    note = ", ".join(
        f"{task.name} {mine:.1f} of {theirs:.1f}" for task, mine, theirs in zip(sets, ours, dense, strict=True)
    )
    peers = (Peer(TEACHER, 100.0), Peer("TF-IDF", round(mean(_shares(tf_idf, dense)), 2)))
    yield run.row("retained", round(mean(kept), 2), peers=peers, note=note)
    lowest = Peer("TF-IDF", round(min(_shares(tf_idf, dense)), 2))
    yield run.row("retained_lowest", round(min(kept), 2), peers=(lowest,))
    yield from _rung(run, sets)


def _rung(run: Run, sets: Sequence[TextSet]) -> Iterator[Row]:
    """Yields what MiniLM loses if a table in its own space answers under its head, and how much faster the table is."""
    folder = FOLDER / f"rung-{run.seed}"
    if not folder.exists():
        options = StaticOptions(seed=run.seed)
        add_rung(TEACHER, folder, TASKS, options, data=data_folder(), folder=FOLDER, say=run.say)
    whole, inputs = open_encoder(str(folder), max_tokens=64)
    served = served_encoder(whole, inputs)
    losses = [task_accuracy(served, task) - task_accuracy(served, task, STATIC_PRECISION) for task in sets]
    note = ", ".join(f"{task.name} {loss:.1f}" for task, loss in zip(sets, losses, strict=True))
    yield run.row("rung_loss", round(mean(losses), 2), note=note)
    encoder = _packed(whole, inputs)
    batch = RaggedBatch.of(inputs.encode_many(_batch_texts(sets)))
    works = {name: partial(encoder.encode, batch, name) for name in encoder.precisions}
    with one_thread():
        times_s = fastest_in_turns_s(works, 1.0, rounds=5)
    fastest_s = min(times_s[name] for name in works if name != STATIC_PRECISION)
    note = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in times_s.items())
    yield run.row("rung_speed", round(fastest_s / times_s[STATIC_PRECISION], 1), note=note)


def rates(
    run: Run, student: WholeEncoder, teacher: WholeEncoder, inputs: Inputs, sets: Sequence[TextSet]
) -> Iterator[Row]:
    """Yields the texts a second of one thread: from texts to vectors, and from token ids to vectors."""
    texts = _batch_texts(sets)
    token_ids = inputs.encode_many(texts)
    by_name = {"static": _packed(student, inputs), TEACHER: _packed(teacher, inputs)}
    works: dict[str, Callable[[], object]] = {
        f"{name}, ids": partial(_from_ids, encoder, token_ids) for name, encoder in by_name.items()
    }
    works |= {name: partial(_from_texts, encoder, inputs, texts) for name, encoder in by_name.items()}
    works["tokenizer"] = partial(inputs.encode_many, texts)
    with one_thread():
        times_s = fastest_in_turns_s(works, run.amount(1, 20) / 20, rounds=run.amount(1, 5))
    per_s: Mapping[str, float] = {name: round(len(texts) / seconds, -1) for name, seconds in times_s.items()}
    tokens = f"{len(texts)} texts a batch, {sum(map(len, token_ids)) / len(texts):.1f} tokens a text"
    note = f"{tokens}; the tokenizer alone: {per_s['tokenizer']:.0f}/s"
    yield run.row("rate", per_s["static"], peers=(Peer(TEACHER, per_s[TEACHER]),), note=note)
    yield run.row("rate_of_ids", per_s["static, ids"], peers=(Peer(TEACHER, per_s[f"{TEACHER}, ids"]),), note=tokens)


def _batch_texts(sets: Sequence[TextSet]) -> list[str]:
    """Returns the texts of a timed batch: as many test texts of each set."""
    return [item.text for task in sets for item in task.test[: BATCH // len(sets)]]


def tf_idf_accuracy(task: TextSet) -> float:
    """Returns the accuracy on the test texts, in percent, of TF-IDF of words and pairs with a ridge classifier."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline

    # A token may be a single letter or a sign: questions and opinions have few words.
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]", sublinear_tf=True)
    classifier = make_pipeline(words, RidgeClassifier())
    classifier.fit([item.text for item in task.train], [item.label for item in task.train])
    right: float = classifier.score([item.text for item in task.test], [item.label for item in task.test])
    return 100 * right


def _shares(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [100 * one / other for one, other in zip(ours, theirs, strict=True)]


def _packed(whole: WholeEncoder, inputs: Inputs) -> PackedEncoder:
    tensors = find_family(whole.config).quantize_trained(whole, first_layer=None, grams={})
    return packed(whole.config, tensors, inputs)


def _from_ids(encoder: PackedEncoder, token_ids: Sequence[list[int]]) -> None:
    encoder.encode(RaggedBatch.of(token_ids))


def _from_texts(encoder: PackedEncoder, inputs: Inputs, texts: Sequence[str]) -> None:
    encoder.encode(RaggedBatch.of(inputs.encode_many(texts)))


def _untrained(seed: int) -> WholeStatic:
    """Returns an encoder with random rows, as large and as fast as a trained one."""
    config = StaticConfig()
    rng = torch.Generator().manual_seed(seed)
    first_P = torch.arange(config.pairs)
    table = StaticTable(
        torch.randn(config.rows, config.d_model, generator=rng),
        torch.stack([first_P, first_P], dim=1),
        vocab=config.vocab,
    )
    return WholeStatic(config, table)


TECHNIQUE = Technique(
    title="a static encoder",
    claim="Not of the article: a table of vectors of tokens, without attention, under the same exact head (model2vec).",
    how=(
        "A table of vectors of tokens and frequent pairs, distilled from MiniLM on the training texts of CLINC150, "
        "SNIPS, TREC-6 and SST-2 without their labels (a text that is also a test text is left out). Accuracy: a "
        "closed-form head of all training labels, test texts. Rates: processor time of one thread, in turns."
    ),
    bars=(
        Bar(
            "retained",
            "% of MiniLM's accuracy, mean of four sets",
            ">= 92",
            baseline="MiniLM in INT8 with the same head; also shown: TF-IDF with a ridge classifier",
        ),
        Bar("retained_lowest", "% of MiniLM's accuracy, on the worst of the four sets", baseline="the same"),
        Bar("rate", "texts/s on one core, tokenizer included", ">= 20000", baseline="MiniLM in INT8"),
        Bar("rate_of_ids", "texts/s on one core, from token ids", ">= 20000", baseline="MiniLM in INT8"),
        Bar(
            "rung_loss",
            "points of accuracy, mean of four sets, a table in MiniLM's space under MiniLM's head",
            baseline="MiniLM in INT8",
        ),
        Bar(
            "rung_speed",
            "times as fast as MiniLM's fastest precision, 64 texts, from token ids",
            baseline="INT8 and INT4",
        ),
        Bar("size", "MB of stored weights", "<= 12", quick="<= 12", baseline="INT4 alone takes 12 MB (E7)"),
    ),
)
