"""Measures learning of pictures and sounds in the live service, with an encoder that was trained without labels.

    split-mnist    MNIST, two digits after two others: 60,000 pictures, each with a label, 200 a second
    fsdd           FSDD, speaker after speaker: 1,800 sounds, each with a label

After each stage, the service answers the test items of all stages so far. Forgetting is the mean loss of accuracy of a
stage from its best test to the last one. The encoder is trained at the first use, and kept in the state folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.harness.case import Run
from bench.harness.service import effective_settings
from bench.harness.texts import data_folder
from bench.live import play_live
from evals.results.row import Row, Skip
from evals.streams.digits import speaker_stages, split_stages
from evals.streams.stream import FULL_RATE, Stream
from learner.errors import DataError
from lifelong.compress.contrastive import PretrainOptions
from services.members.train import train_digits


@dataclass(frozen=True, kw_only=True, slots=True)
class DigitsSize:
    """The size of the benchmark. `pictures` and `test` are the numbers of pictures of all stages; 0 leaves them out."""

    pictures: int = 60_000
    test: int = 10_000
    rate: float = FULL_RATE
    sounds_rate: float = 50.0
    seed: int = 0


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(DigitsSize(), quick=DigitsSize(pictures=1_000, test=500))
    data = data_folder()
    settings = effective_settings({})
    options = PretrainOptions(pairs=(), seed=size.seed)
    try:
        encoder = train_digits(options, data=data, state_dir=settings.state_dir, say=run.say).folder
        pictures = Stream("split-mnist", split_stages(data, size.pictures, size.test)).shuffled(size.seed)
        sounds = Stream("fsdd", speaker_stages(data)).shuffled(size.seed)
    except DataError as error:
        raise Skip(str(error)) from error
    if size.pictures:
        run.say(f"{pictures.num_events} pictures at {size.rate:g} a second ...")
        figures = play_live(pictures, size.rate, seed=size.seed, settings={"encoder": encoder})
        ratio = figures.prequential.ratio if figures.prequential else None
        yield Row.of("digits.mnist_final", figures.accuracy_final, "%", goal=">= 97.5")
        yield Row.of("digits.mnist_forgetting", figures.forgetting, "points", goal="<= 0.5")
        yield Row.of("digits.mnist_ratio", ratio, "of an instant oracle", goal=">= 0.95")
        yield Row.of("digits.mnist_lost", figures.lost, "events", goal="<= 0")
    run.say(f"{sounds.num_events} sounds at {size.sounds_rate:g} a second ...")
    figures = play_live(sounds, size.sounds_rate, seed=size.seed, settings={"encoder": encoder})
    yield Row.of("digits.fsdd_final", figures.accuracy_final, "%", goal=">= 96")
    yield Row.of("digits.fsdd_forgetting", figures.forgetting, "points", goal="<= 1")
    yield Row.of("digits.fsdd_lost", figures.lost, "events", goal="<= 0")
