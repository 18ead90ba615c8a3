"""A small learner of three blocks, one for each tier, and texts from elsewhere and from far away."""

from dataclasses import replace

import msgspec
import torch

from learner.learner import Learner
from model.bert import fold_norm_biases
from model.strata import Strata
from tests.learner.small_learner import CONFIG, Setting, small_config, tokenizer
from tests.learner.streams import answer, feedback, label_of
from wire.records import Answer, Feedback

LAYERS: dict[str, Setting] = {"trainable_layers": 1, "deeper_layers": (2, 3)}


def tiered_learner(**changed: Setting) -> Learner:
    return Learner(small_config(**(LAYERS | changed)), three_blocks(), tokenizer())


def three_blocks() -> Strata:
    """An encoder with the same weights every time. Its words are far apart, so that other texts have other vectors."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(7)
        strata = Strata(replace(CONFIG, n_layers=3))
        strata.get_parameter("embed.word.weight").mul_(3.0)
        return fold_norm_biases(strata).eval()


def far_away(number: int) -> list[Answer | Feedback]:
    """An answer and its label, about a text in another language and script."""
    event = msgspec.structs.replace(answer(number, label=label_of(number)), text=f"我想预订一家酒店 号码 {number} 谢谢")
    return [event, feedback(number)]


def wrongly_answered(number: int) -> list[Answer | Feedback]:
    """An answer that its label contradicts, about a text of the known kind."""
    return [answer(number, label="wrong"), feedback(number)]


def rightly_answered(number: int) -> list[Answer | Feedback]:
    return [answer(number, label=label_of(number)), feedback(number)]
