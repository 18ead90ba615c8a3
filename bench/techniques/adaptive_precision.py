"""Measures row E12: the precision chosen for each batch, compared with fixed precisions and the article's rule.

    texts at a low and a high rate in turns --virtual_time--> batches --policy--> a precision --encoder, head--> labels

Our policy is the service's own choice (`serving.models`), with measured latencies and accuracies as in a replica.

Shape suffixes: B texts, D width.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import mean, median

import torch

from bench.harness.case import Bar, Run, Technique
from bench.harness.texts import data_folder
from bench.techniques.tasks import contracts, load_tasks, served_model
from bench.techniques.virtual_time import Arrivals, Text, play, poisson
from evals.results.row import Peer, Row
from evals.streams.stream import StreamItem
from model.bert import load_encoder
from model.quantized import INT4, INT8, PRECISIONS, QuantizedModel
from model.ragged import RaggedBatch
from model.strata import Strata
from model.tokenizer import TextTokenizer
from serving import models
from serving.config import PrecisionConfig
from serving.models import NO_CHOICE, Version
from serving.weights import in_use
from wire.records import PrecisionEvaluation
from wire.tasks import DEFAULT

FLOAT = "float32"
RULE = "the article's rule"
OURS = "ours"
POSITIONS = 512
"""The number of tokens of the longest text, which is a document."""
DOCUMENTS = 0.02
"""The fraction of arrivals that are documents."""
RULE_ABOVE = 256
"""The length in tokens above which the article's rule uses 16 bits instead of 8. The article says 512, but no text is
longer than 512 tokens here, so it is half of that."""

PERIOD_S = 2.0
RATES = (0.6, 1.4)
"""The arrival rates in the two halves of a period, as fractions of INT8's throughput."""
ROUNDS = 3
"""How often each policy plays the arrivals. The policies take turns, because the processor's speed varies."""

MAX_LOSS = 0.003
"""The largest loss of accuracy against INT8 with which a precision may still answer: the bar of the row."""

Policy = Callable[[Sequence[Text], float], str]
"""Chooses the precision of a batch from its texts and the load of the queue, in [0, 1]."""


class Adaptive:
    """The choice of the service."""

    def __init__(self, version: Version) -> None:
        self._versions = {(DEFAULT, version.number): version}
        self._config = PrecisionConfig(max_accuracy_loss=MAX_LOSS, brown_out_accuracy_loss=MAX_LOSS)
        self._last = NO_CHOICE

    def __call__(self, texts: Sequence[Text], load: float) -> str:
        num_tokens = sum(text.num_tokens for text in texts)
        self._last = models.choose_precisions(
            self._versions, num_tokens=num_tokens, load=load, previous=self._last, config=self._config
        )
        (chosen,) = self._last.by_version.values()
        return chosen


def by_length(texts: Sequence[Text], load: float) -> str:
    """The rule of the article."""
    return FLOAT if max(text.num_tokens for text in texts) > RULE_ABOVE else INT8


class Answers:
    """Answers batches in the precision that a policy chooses, and keeps the labels and the precisions."""

    def __init__(self, strata: Strata, model: QuantizedModel, policy: Policy) -> None:
        self._strata = strata
        self._model = model
        self._policy = policy
        self.given: list[tuple[Text, str]] = []
        self.batches = Counter[str]()

    def __call__(self, texts: Sequence[Text], load: float) -> None:
        name = self._policy(texts, load)
        batch = RaggedBatch.of([text.token_ids for text in texts])
        z_BD = self._strata(batch) if name == FLOAT else self._model.encoder.encode(batch, name)
        rows_B = self._model.head.logits(z_BD, len(self._model.labels)).argmax(dim=1)
        self.given += zip(texts, [self._model.labels[row] for row in rows_B.tolist()], strict=True)
        self.batches[name] += 1


@torch.no_grad()
def measure(run: Run) -> Iterator[Row]:
    """Yields goodput and accuracy. Raises Skip without data."""
    torch.set_num_threads(1)
    strata, tokenizer = load_encoder("minilm-l6", max_tokens=POSITIONS)
    train, test = _items(run)
    model = served_model(strata, tokenizer, train)
    texts = _texts(tokenizer, test)
    # Every fifth text evaluates the precisions; the other texts arrive.
    version = _version(strata, model, texts[::5])
    del texts[::5]
    arrivals = _arrivals(texts, version, run)
    policies: dict[str, Policy] = {name: partial(_fixed, name) for name in (*PRECISIONS, FLOAT)}
    policies |= {RULE: by_length, OURS: Adaptive(version)}
    answers = {name: Answers(strata, model, policy) for name, policy in policies.items()}
    played: dict[str, list[float]] = {name: [] for name in policies}
    for _ in range(run.amount(1, ROUNDS)):
        for name in policies:
            played[name].append(play(arrivals, answers[name]) / arrivals[-1][0])
    rates = {name: round(median(each), 1) for name, each in played.items()}
    for name in policies:
        run.say(f"{name}: {rates[name]} answers/s in time, batches {dict(answers[name].batches)}")
    fixed = sorted((*PRECISIONS, FLOAT), key=rates.__getitem__, reverse=True)
    peers = tuple(Peer(name, rates[name]) for name in (*fixed, RULE))
    note = f"batches {dict(answers[OURS].batches)}; {_relative_times(version)}"
    yield run.row("goodput", rates[OURS], peers=peers, note=note)
    int8 = partial(Answers, strata, model, partial(_fixed, INT8))
    losses = {name: round(_points_lost(each, int8()), 2) for name, each in answers.items()}
    yield run.row("accuracy_lost", losses.pop(OURS), peers=tuple(Peer(name, loss) for name, loss in losses.items()))


def _fixed(name: str, texts: Sequence[Text], load: float) -> str:
    return name


def _items(run: Run) -> tuple[list[StreamItem], list[StreamItem]]:
    """Returns training texts and test texts. A full run includes documents in both."""
    (task,) = load_tasks(run, ("clinc150",), train=3_000, test=4_500)
    if run.is_quick:
        return list(task.train), list(task.test)
    documents = contracts(data_folder())
    random.Random(run.seed).shuffle(documents)
    half = len(documents) // 2
    return [*task.train, *documents[:half]], [*task.test, *documents[half:]]


def _texts(tokenizer: TextTokenizer, items: Sequence[StreamItem]) -> list[Text]:
    token_ids = tokenizer.encode_many([item.text for item in items])
    return [Text(token_ids=ids, label=item.label) for ids, item in zip(token_ids, items, strict=True)]


def _version(strata: Strata, model: QuantizedModel, holdout: Sequence[Text]) -> Version:
    """Returns the version as a replica would load it, with the accuracy and the latency of each precision."""
    latency = in_use.measure(model.encoder.encode, PRECISIONS, vocab=strata.config.vocab, clock=time.thread_time)
    evaluated: list[PrecisionEvaluation] = []
    for name in PRECISIONS:
        answers = Answers(strata, model, partial(_fixed, name))
        for text in holdout:
            answers([text], 0.0)
        accuracy = mean(label == text.label for text, label in answers.given)
        evaluated.append(PrecisionEvaluation(name=name, accuracy=accuracy))
    return Version(number=1, model=model, precisions=tuple(evaluated), num_bytes=0, latency=latency)


def _arrivals(texts: Sequence[Text], version: Version, run: Run) -> Arrivals:
    short = [text for text in texts if text.num_tokens < POSITIONS]
    documents = [text for text in texts if text.num_tokens >= POSITIONS] or short
    mean_tokens = DOCUMENTS * _mean_tokens(documents) + (1 - DOCUMENTS) * _mean_tokens(short)
    batch_tokens = version.latency.num_tokens[-1]
    texts_per_s = 1e3 * batch_tokens / version.latency.batch_ms(INT8, batch_tokens) / mean_tokens

    def draw_text(rng: random.Random) -> Text:
        return rng.choice(documents if rng.random() < DOCUMENTS else short)

    rates = [share * texts_per_s for share in RATES]
    return list(poisson(draw_text, rates=rates, period_s=PERIOD_S, end_s=run.amount(1, 6) * PERIOD_S, seed=run.seed))


def _mean_tokens(texts: Sequence[Text]) -> float:
    return mean(text.num_tokens for text in texts)


def _relative_times(version: Version) -> str:
    table = version.latency
    ratios = [f"{four / eight:.2f}" for four, eight in zip(table.ms[INT4], table.ms[INT8], strict=True)]
    return f"INT4 takes {', '.join(ratios)} of INT8's time at {', '.join(map(str, table.num_tokens))} tokens"


def _points_lost(answers: Answers, int8: Answers) -> float:
    """Returns the loss of accuracy against INT8's answers to the same texts, in points."""
    texts = list({id(text): text for text, _ in answers.given}.values())
    for text in texts:
        int8([text], 0.0)
    is_right = {id(text): label == text.label for text, label in int8.given}
    lost = [is_right[id(text)] - (label == text.label) for text, label in answers.given]
    return 100 * mean(lost)


TECHNIQUE = Technique(
    title="adaptive precision",
    claim="The article chooses the precision by the length of a text.",
    how=(
        "MiniLM, texts of CLINC150 and, every fiftieth, a document of 512 tokens, at 0.6 and 1.4 times the rate of "
        "INT8 in turns; at most 64 wait, and an answer counts within 150 ms. The article's rule takes 16 bits above "
        "512 tokens; here, float32 above 256. If INT4 is slower than INT8 at every length, as on Zen 4, nothing can "
        "be gained."
    ),
    bars=(
        Bar("goodput", "answers in time/s", ">= 1.1x", baseline="the best fixed precision on the same arrivals"),
        Bar("accuracy_lost", "points", "<= 0.3", quick="<= 1", baseline="what INT8 names for the same texts"),
    ),
)
