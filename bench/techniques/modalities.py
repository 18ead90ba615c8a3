"""Measures row E17: pictures, sounds and texts in one encoder, compared with three, degraded, and without pairs.

    MNIST, FSDD, sentences --Pretraining--> encoder, INT8 --> z of each modality --exact head--> accuracy
    one encoder without pairs, and three of a modality each, with as many steps     --> shared
    an encoder with pairs, without the speaker of the seed                          --> retrieval, fusion, missing

Degraded pictures keep the leading principal components that hold a quarter of their energy, and degraded sounds have
white noise of their own power (0 dB), as in AV-MNIST (Vielzeuf et al., arXiv 1808.07275). Each recording is paired with
five pictures of its digit, training with training and test with test, and gets other noise with each.

Retrieval: a sound of the speaker that no training has heard has to find the word of its digit among ten, by the cosine.
Sounds and texts were never paired. The other figure is of an encoder that was trained on these pairs, too.

Shape suffixes: N events, D width, R random features.
"""

import io
import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bench.harness.case import Bar, Run, Technique
from bench.harness.texts import data_folder
from bench.techniques.tasks import head_accuracy, ridge_head
from evals.results.row import Peer, Row, Skip
from evals.streams.digits import (
    WORDS,
    Recording,
    digits_data,
    prepared_pictures,
    prepared_sounds,
    recordings,
    sentences,
)
from evals.streams.images import mnist
from evals.streams.stream import StreamItem
from learner.errors import DataError
from lifelong.compress.contrastive import PAIRS, TEXT, Pretraining, PretrainOptions
from lifelong.media.mel import Samples, compute_mel
from model.head import features, projection
from model.media.encoder import MediaConfig
from model.media.family import MEDIA, word_ids
from model.media.stem import MediaData, prepare
from model.media.tokens import AUDIO, IMAGE, MODALITIES, pack
from model.strata import encode_many

BATCH = 64

KEPT_ENERGY = 0.25
"""The share of a picture's energy that degraded pictures keep."""

NUM_PAIRED = 5
"""Pictures that each recording is paired with."""

TEST_TEMPLATES = ("is it a {} or not", "{} was the answer of the caller", "I wrote {}")
"""The sentences of the test, which no training has read."""


@dataclass(frozen=True, slots=True)
class Size:
    """The steps of each training, and the numbers of pictures to learn and to test."""

    stem_steps: int = 150
    trunk_steps: int = 300
    num_train: int = 20_000
    num_test: int = 10_000


QUICK = Size(stem_steps=20, trunk_steps=10, num_train=1_000, num_test=500)


class Encoder:
    """A trained encoder as it is served, in INT8."""

    def __init__(self, training: Pretraining) -> None:
        whole = training.whole.eval()
        tensors = MEDIA.quantize_trained(whole, first_layer=None, grams={})
        self.num_parameters = sum(each.numel() for each in whole.parameters())
        self.num_parameters += sum(
            each.numel() for stem in training.stems.values() for each in stem.tensors("").values()
        )
        self._stems = training.stems
        self._packed = MEDIA.pack(whole.config, tensors, None)  # type: ignore[arg-type]  # it has its own shapes
        self._config = whole.config
        self._proj_RD = projection(whole.config)

    def part_ids(self, name: str, q: Tensor) -> list[list[int]]:
        """Returns the token ids of prepared parts uint8 [N, h, w]."""
        return [
            ids
            for each in torch.split(q, BATCH)
            for ids in pack(MODALITIES[name], self._stems[name].codes(each)).tolist()
        ]

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [word_ids(text, self._config.words) for text in texts]

    def vectors(self, ids: list[list[int]]) -> Tensor:
        """Returns z_ND of events."""
        return encode_many(lambda batch: self._packed.encode(batch, "int8"), ids, batch_size=BATCH)

    def features(self, ids: list[list[int]]) -> Tensor:
        """Returns the random features phi_NR of events, which the exact head reads."""
        return features(self.vectors(ids), self._proj_RD)

    def accuracy(self, train: "Labelled", test: "Labelled") -> float:
        """Returns the accuracy of an exact head of all training events, in percent."""
        head = ridge_head(self.features(train.ids), train.items)
        return head_accuracy(head, self.features(test.ids), test.items)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Token ids of events, and their digits."""

    ids: list[list[int]]
    digits: Sequence[int]

    @property
    def items(self) -> list[StreamItem]:
        return [StreamItem("", WORDS[digit]) for digit in self.digits]

    def __add__(self, other: "Labelled") -> "Labelled":
        return Labelled(self.ids + other.ids, [*self.digits, *other.digits])


def trained(data: MediaData, options: PretrainOptions, run: Run, name: str) -> Encoder:
    """Trains an encoder, and shows the progress."""
    training = Pretraining(data, MediaConfig(), options)
    while not training.is_done:
        loss = training.step()
        if training.num_done % 50 == 0:
            run.say(f"{name}: step {training.num_done} of {training.num_steps}, loss {loss:.3f}")
    return Encoder(training)


def only(data: MediaData, name: str) -> MediaData:
    """Returns the data of one modality."""
    if name == TEXT:
        return MediaData({}, data.texts)
    return MediaData({name: data.parts[name]}, ())


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(Size(), QUICK)
    data = data_folder()
    try:
        speakers = sorted({each.speaker for each in recordings(data)})
        left_out = speakers[run.seed % len(speakers)]
        whole, without_speaker = digits_data(data), digits_data(data, left_out=left_out)
    except DataError as error:
        raise Skip(str(error)) from error
    options = PretrainOptions(stem_steps=size.stem_steps, trunk_steps=size.trunk_steps, seed=run.seed)
    yield from _shared(run, size, whole, replace(options, pairs=()))
    paired = trained(without_speaker, options, run, "with pairs")
    yield from _retrieval(run, paired, without_speaker, options, left_out)
    yield from _degraded(run, paired)


def _shared(run: Run, size: Size, data: MediaData, options: PretrainOptions) -> Iterator[Row]:
    one = trained(data, options, run, "one encoder")
    accuracies: dict[str, tuple[float, float]] = {}
    total = 0
    for name in (*data.parts, TEXT):
        steps = replace(options, stem_steps=0) if name == TEXT else options
        own = trained(only(data, name), steps, run, f"an encoder of {name}")
        total += own.num_parameters
        accuracies[name] = (one.accuracy(*_sets(one, name, size)), own.accuracy(*_sets(own, name, size)))
    losses = [own - shared for shared, own in accuracies.values()]
    peers = [Peer(f"{name}, alone", round(own, 2)) for name, (_, own) in accuracies.items()]
    peers += [Peer(f"{name}, in one", round(shared, 2)) for name, (shared, _) in accuracies.items()]
    yield run.row("shared", sum(losses) / len(losses), peers=peers)
    yield run.row("parameters", 100 * one.num_parameters / total)


def _sets(encoder: Encoder, name: str, size: Size) -> tuple[Labelled, Labelled]:
    """Returns labelled events of one modality, to learn and to test."""
    if name == TEXT:
        known = sentences()
        unseen = [(template.format(word), digit) for digit, word in enumerate(WORDS) for template in TEST_TEMPLATES]
        return tuple(  # type: ignore[return-value]  # two
            Labelled(encoder.text_ids([text for text, _ in each]), [digit for _, digit in each])
            for each in (known, unseen)
        )
    if name == AUDIO.name:
        split = [[each for each in recordings(data_folder()) if each.is_test is is_test] for is_test in (False, True)]
        return tuple(  # type: ignore[return-value]  # two
            Labelled(encoder.part_ids(name, prepared_sounds(each)), [sound.digit for sound in each]) for each in split
        )
    sets = []
    for part, num in zip(mnist(data_folder()), (size.num_train, size.num_test), strict=True):
        ids = encoder.part_ids(name, prepared_pictures(part)[:num])
        sets.append(Labelled(ids, part.labels_N[:num].tolist()))
    return sets[0], sets[1]


def recall_at_1(encoder: Encoder, sounds: Sequence[Recording]) -> float:
    """Returns the share of sounds whose nearest word, of ten, is that of their digit, in percent."""
    z_ND = encoder.vectors(encoder.part_ids(AUDIO.name, prepared_sounds(sounds)))
    nearest_N = (z_ND @ encoder.vectors(encoder.text_ids(WORDS)).T).argmax(dim=1)
    return 100 * float((nearest_N == torch.tensor([each.digit for each in sounds])).float().mean())


def _retrieval(run: Run, encoder: Encoder, data: MediaData, options: PretrainOptions, left_out: str) -> Iterator[Row]:
    sounds = [each for each in recordings(data_folder()) if each.speaker == left_out]
    direct = trained(data, replace(options, pairs=(*PAIRS, (AUDIO.name, TEXT))), run, "with pairs of sound and text")
    peers = [Peer("trained on pairs of sound and text", round(recall_at_1(direct, sounds), 2))]
    yield run.row("retrieval", recall_at_1(encoder, sounds), peers=peers, note=f"left out: {left_out}")


def _degraded(run: Run, encoder: Encoder) -> Iterator[Row]:
    rng = np.random.default_rng(run.seed)
    sets = _degraded_sets(rng)
    kinds = ("image", "audio", "both")
    made = [{kind: _events(encoder, each, kind) for kind in kinds} for each in sets]
    train, test = made
    alone = {kind: encoder.accuracy(train[kind], test[kind]) for kind in kinds}
    best = max(alone["image"], alone["audio"])
    peers = [Peer(f"{kind} alone", round(alone[kind], 2)) for kind in kinds[:2]]
    yield run.row("fusion", alone["both"] - best, peers=[*peers, Peer("both", round(alone["both"], 2))])
    # One head of events with any of the parts.
    joint = train["image"] + train["audio"] + train["both"]
    found = {kind: encoder.accuracy(joint, test[kind]) for kind in kinds[:2]}
    peers = [Peer(f"{kind} left, one head of all", round(value, 2)) for kind, value in found.items()]
    yield run.row("missing", max(alone[kind] - value for kind, value in found.items()), peers=peers)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Degraded pictures and sounds of the same digits, prepared for the stems."""

    parts: Mapping[str, Tensor]
    digits: Sequence[int]


def _events(encoder: Encoder, pairs: Pairs, kind: str) -> Labelled:
    ids = {name: encoder.part_ids(name, q) for name, q in pairs.parts.items()}
    if kind == "both":
        both = [one + other for one, other in zip(ids["image"], ids["audio"], strict=True)]
        return Labelled(both, pairs.digits)
    return Labelled(ids[kind], pairs.digits)


def _degraded_sets(rng: np.random.Generator) -> tuple[Pairs, Pairs]:
    """Returns degraded pairs of every recording with NUM_PAIRED pictures of its digit: to learn, and to test."""
    pictures = mnist(data_folder())
    mean_P, basis_PK = leading_components(pictures[0].inputs.numpy().astype(np.float64))
    found: list[Pairs] = []
    for part, is_test in zip(pictures, (False, True), strict=True):
        sounds = [each for each in recordings(data_folder()) if each.is_test is is_test] * NUM_PAIRED
        digits = [each.digit for each in sounds]
        rows = [int(rng.choice((part.labels_N == digit).nonzero()[:, 0].numpy())) for digit in digits]
        x_NP = part.inputs[rows].numpy() - mean_P
        kept = np.clip(np.rint(x_NP @ basis_PK @ basis_PK.T + mean_P), 0, 255).astype(np.uint8).reshape(-1, 28, 28)
        image = np.stack([prepare(IMAGE, each) for each in kept])
        audio = np.stack([prepare(AUDIO, compute_mel(with_noise(samples(each.wav), rng))) for each in sounds])
        found.append(Pairs({IMAGE.name: torch.from_numpy(image), AUDIO.name: torch.from_numpy(audio)}, digits))
    return found[0], found[1]


def leading_components(x_NP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean of pictures, and the leading principal components with at most KEPT_ENERGY of the variance."""
    mean_P = x_NP.mean(axis=0)
    centred = x_NP - mean_P
    values_P, vectors_PP = np.linalg.eigh(centred.T @ centred / len(x_NP))
    shares = np.cumsum(values_P[::-1]) / values_P.sum()
    num = max(1, int((shares <= KEPT_ENERGY).sum()))
    return mean_P, vectors_PP[:, ::-1][:, :num]


def with_noise(x_N: Samples, rng: np.random.Generator) -> Samples:
    """Returns samples with white noise of the same power."""
    power = np.sqrt(np.square(x_N.astype(np.float64)).mean())
    noisy = np.clip(np.rint(x_N + rng.normal(0, max(power, 1.0), len(x_N))), -(1 << 15), (1 << 15) - 1)
    samples_N: Samples = noisy.astype(np.int16)
    return samples_N


def samples(wav: bytes) -> Samples:
    """Returns the samples of a recording of FSDD: one channel of 16 bits at 8 kHz."""
    with wave.open(io.BytesIO(wav)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)


TECHNIQUE = Technique(
    title="pictures, sounds and texts in one encoder",
    claim="The article promises one model for text, image and audio.",
    how=(
        "MNIST, FSDD and sentences; 2.5 M parameters in INT8, an exact head. One encoder and three separate ones learn "
        "without labels, with as many steps each. The encoder with pairs has never heard the speaker of the seed. "
        "Degraded pictures keep 25 % of their energy, sounds have noise at 0 dB."
    ),
    bars=(
        Bar("shared", "points below separate encoders, mean of the modalities", "<= 1", baseline="three encoders"),
        Bar("parameters", "% of the parameters of three encoders", "<= 40", quick="<= 40", baseline="counted"),
        Bar("retrieval", "% of sounds of a new speaker whose nearest word is right", ">= 75", baseline="chance: 10"),
        Bar("fusion", "points over the better part alone, degraded", ">= 5", baseline="heads of one part"),
        Bar("missing", "points below a head of the part that is left", "<= 0", baseline="heads of one part"),
    ),
)
