"""Runs continual-learning strategies and plugins of the Avalanche library in slow rounds. No other module imports it.

    avalanche.training.supervised:EWC(ewc_lambda=0.4) --find--> ImportedClass --make--> strategy
    samples of the replay buffer --> the previous experience, without gradient steps
    batches of the plan -----------> the experience of the round, a gradient step for each batch

**Names.** A path is `module:Class` or `module.Class`. `avalanche-NAME` is short for a class of
`avalanche.training.supervised`; capitals and underscores do not matter. The arguments in parentheses are Python
literals. The caller supplies all other arguments, such as the network, the optimizer and the loss.

**Experiences.** Avalanche calls a part of the training data an experience. A slow round is one experience of the
strategy. A strategy object exists for one round only, so a round is a function of its plan and its encoder. But
strategies against forgetting need a previous experience. So the strategy first gets samples of the replay buffer as an
experience without gradient steps, with the weights from before the round. EWC computes its importances on them, LwF
stores its teacher, and a strategy with a replay buffer of its own fills the buffer. Then the strategy trains on the
batches of the plan, with new and replayed samples. It uses its own loop and all of its hooks, but the optimizer, the
loss and the gradient clipping of all rounds.

The inputs of the network are the activations below the trained blocks, padded with zeros (the output of a norm is never
all 0). `SHOWN` bounds the work of the hooks before and after an experience.

Rejected:

- Avalanche's own call that trains a whole experience: labels would wait until the round ends.
- Keeping the state of a strategy from round to round: a version could not be rebuilt from its lineage.
- A table of wrappers, one for each strategy: it would lag behind Avalanche.

Shape suffixes: B texts, L tokens of a text, T tokens of all texts, D width, C classes.
"""

import inspect
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from itertools import chain, islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import PolynomialLR

from learner.config import LearnerConfig
from learner.errors import DataError, require
from learner.plugins import PREFIX, import_any, parse, quiet
from learner.rounds.plan import RoundPlan, StepPlan
from learner.rounds.strategies import class_loss
from learner.rounds.trainer import cosine_logits, torch_adamw
from learner.samples import Labelled
from model.config import StrataConfig
from model.fakequant import fake_layer
from model.packed import BlockRunner, WholeEncoder
from model.ragged import RaggedLayout
from model.strata import Strata

OWN = "learner/rounds/strategies.py"
"""The file with our own strategies, which can train every encoder."""

SHOWN = 256
"""The most samples of the replay buffer, and the most new samples, in the experiences that a strategy gets."""

Inputs: TypeAlias = Callable[[Sequence[Labelled]], tuple[Tensor, RaggedLayout, Tensor]]
"""Returns the activations x_TD below the trained blocks, their layout, and the row of each sample's class."""


class TopClassifier(nn.Module):
    """The network that Avalanche trains: the top blocks and the auxiliary head, from padded x_BLD to logits_BC."""

    def __init__(self, blocks: nn.ModuleList, means_CD: Tensor, *, run_blocks: BlockRunner) -> None:
        super().__init__()
        self.blocks = blocks
        self.run_blocks = run_blocks
        self.head_CD = nn.Parameter(means_CD.clone())

    def forward(self, x_BLD: Tensor) -> Tensor:
        # The padding is 0 in every channel.
        lengths = (x_BLD != 0).any(dim=2).sum(dim=1).tolist()
        layout = RaggedLayout.of(lengths)
        x_TD = layout.join([x_LD[:length] for x_LD, length in zip(x_BLD, lengths, strict=True)])
        z_BD = self.run_blocks(self.blocks, x_TD, layout, fake_layer)
        return cosine_logits(z_BD, self.head_CD)


class AvalancheTrainer:
    """Trains the top blocks of an encoder by a strategy of Avalanche: `strata` from `first_layer` on, in place.

    It trains on the batches of `plan`. Texts have at most `max_tokens` tokens. Raises DataError if the strategy cannot
    be made or cannot train the encoder.
    """

    def __init__(
        self,
        strata: WholeEncoder,
        means_CD: Tensor,
        *,
        first_layer: int,
        plan: RoundPlan,
        inputs: Inputs,
        max_tokens: int,
        config: LearnerConfig,
    ) -> None:
        if strata.run_blocks is None:
            raise DataError(f"{config.slow_strategy} cannot train {strata.config.shown}: choose one of {OWN}")
        self._name = config.slow_strategy
        self._plan = plan
        self._inputs = inputs
        self._max_tokens = max_tokens
        self._seed = config.seed
        self._num_done = 0
        # Freezes also the lower matrices that the trained blocks share.
        strata.requires_grad_(False)
        top = strata.layers[first_layer:].requires_grad_()
        net = TopClassifier(top, means_CD, run_blocks=strata.run_blocks)
        decay = config.slow_weight_decay
        optimizer = torch_adamw(top.parameters(), [net.head_CD], rate=config.slow_rate, decay=decay)
        optimizer.register_step_pre_hook(partial(_bound, max_norm=config.max_gradient_norm))
        self._rates = PolynomialLR(optimizer, total_iters=len(plan.steps))
        common = {
            "model": net,
            "optimizer": optimizer,
            "criterion": partial(class_loss, q=config.slow_loss_q),
            "train_mb_size": config.slow_batch,
            "evaluator": None,
            "mem_size": SHOWN,
        }
        self._strategy = make(find(config.slow_strategy), common)

    def step(self, x_TD: Tensor, layout: RaggedLayout, rows_B: Tensor, sizes: Sequence[int]) -> float:
        """Takes one gradient step; returns the loss.

        `x_TD` are the activations of the texts below the trained blocks. If the gradient is not finite, nothing
        changes. Raises DataError for any exception of the strategy.
        """
        try:
            return self._step(x_TD, layout, rows_B)
        # Third-party code may raise anything.
        except Exception as error:
            raise DataError(f"{self._name} cannot learn a slow round: {error!r}") from error

    def _step(self, x_TD: Tensor, layout: RaggedLayout, rows_B: Tensor) -> float:
        strategy = self._strategy
        with quiet(), seeded(self._seed, self._plan.number, self._num_done):
            if not self._num_done:
                self._begin()
            # A batch of Avalanche: the inputs, the labels and the numbers of the tasks.
            strategy.dataloader = [[self._pad(x_TD, layout), rows_B, torch.zeros_like(rows_B)]]
            strategy.training_epoch()
            self._num_done += 1
            loss = float(strategy.loss.detach())
            # A step that changed nothing does not lower the learning rates.
            if np.isfinite(loss):
                self._rates.step()
            if self._num_done == len(self._plan.steps):
                self._end()
        return loss

    def _begin(self) -> None:
        """Shows the replayed samples to the strategy as a previous experience, then begins the round's experience."""
        strategy = self._strategy
        fresh = _first(step.fresh for step in self._plan.steps)
        replayed = _first(chain.from_iterable(step.draws for step in self._plan.steps))
        parts = [self._part(samples) for samples in (replayed, fresh) if samples]
        *before, of_round = experiences(parts)
        strategy.train_epochs = 0
        for experience in before:
            strategy.train(experience)
        strategy.experience = of_round
        strategy.is_training = True
        strategy.model.train()
        # Strategies override these methods, which also call the plugins.
        strategy._before_training()
        strategy._before_training_exp()
        strategy._before_training_epoch()

    def _end(self) -> None:
        strategy = self._strategy
        strategy._after_training_epoch()
        strategy._after_training_exp()
        strategy._after_training()

    def _part(self, samples: Sequence[Labelled]) -> tuple[Tensor, Tensor]:
        x_TD, layout, rows_B = self._inputs(samples)
        return self._pad(x_TD, layout), rows_B

    def _pad(self, x_TD: Tensor, layout: RaggedLayout) -> Tensor:
        x_BLD = torch.zeros(layout.num_sequences, self._max_tokens, x_TD.shape[1])
        for row, x_LD in enumerate(layout.split(x_TD)):
            x_BLD[row, : len(x_LD)] = x_LD
        return x_BLD


def try_out(config: LearnerConfig) -> None:
    """Checks the strategy of the settings by a round of two steps on a tiny encoder. Raises DataError if it fails."""
    shape = StrataConfig(vocab=9, d_model=64, n_layers=1, n_heads=1, d_ff=64)
    samples = [Labelled("one", "a"), Labelled("another", "b")]
    plan = RoundPlan(number=1, steps=[StepPlan(fresh=samples, draws=[samples])] * 2)
    with seeded(config.seed):
        x_TD = torch.rand(8, shape.d_model)
        batch = (torch.cat((x_TD, x_TD)), RaggedLayout.of([4] * 4), torch.tensor([0, 1, 0, 1]), (2, 2))
        trainer = AvalancheTrainer(
            Strata(shape),
            torch.eye(2, shape.d_model),
            first_layer=0,
            plan=plan,
            inputs=lambda _: (x_TD, RaggedLayout.of([4, 4]), torch.tensor([0, 1])),
            max_tokens=4,
            config=config,
        )
        losses = [trainer.step(*batch) for _ in plan.steps]
    if not np.isfinite(losses).all():
        raise DataError(f"{config.slow_strategy} cannot learn a slow round: its losses are {losses}")


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seeds the global generators of torch and Python, which Avalanche uses, and restores their states afterwards.

    Python's generator has one state for all threads: numbers that another thread draws meanwhile change the sequence.
    """
    (seed,) = np.random.SeedSequence(numbers).generate_state(1).tolist()
    state = random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(state)


def _first(parts: Iterable[Sequence[Labelled]]) -> list[Labelled]:
    """Returns the first SHOWN distinct samples."""
    return list(islice(dict.fromkeys(chain.from_iterable(parts)), SHOWN))


def _bound(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any, *, max_norm: float) -> None:
    """Clips the gradients before a step. If any is not finite, drops all of them, so that the step changes nothing."""
    parameters = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    norm = nn.utils.clip_grad_norm_(parameters, max_norm)
    if not torch.isfinite(norm):
        optimizer.zero_grad()


SUPERVISED = "avalanche.training.supervised"


class ImportedClass(NamedTuple):
    """A strategy or plugin class, with the arguments in the parentheses of its name."""

    name: str
    cls: type
    arguments: dict[str, Any]


def find(name: str) -> ImportedClass:
    """Imports the class that a setting names. Raises DataError if that fails, or if it is no strategy and no plugin."""
    require("avalanche", extra="avalanche")
    with quiet():
        cls, arguments = _by_short_name(name) if name.startswith(PREFIX) else import_any(name)
        from avalanche.core import BasePlugin
        from avalanche.training.templates.base import BaseTemplate

        if not isinstance(cls, type) or not issubclass(cls, (BaseTemplate, BasePlugin)):
            raise DataError(f"{name} is no lifelong.Strategy, and neither a strategy nor a plugin of Avalanche")
    return ImportedClass(name, cls, arguments)


def has_memory(imported: ImportedClass) -> bool:
    """Returns whether the class has its own replay buffer, whose size is the argument `mem_size`."""
    return "mem_size" in inspect.signature(imported.cls).parameters


def make(imported: ImportedClass, common: Mapping[str, Any]) -> Any:
    """Makes the strategy object; a plugin is wrapped in Avalanche's plain strategy.

    The constructor gets all arguments in the name, and those arguments of `common` for which it has parameters. Raises
    DataError for missing or wrong arguments.
    """
    with quiet():
        from avalanche.core import BasePlugin
        from avalanche.training.templates import SupervisedTemplate

        instance = _construct(imported, common)
        if not isinstance(instance, BasePlugin):
            return instance
        plugins = [instance, *common.get("plugins", ())]
        return SupervisedTemplate(**_known(SupervisedTemplate, common) | {"plugins": plugins})


def experiences(parts: Sequence[tuple[Tensor, Tensor]]) -> list[Any]:
    """Makes an experience of each part, a pair of inputs and labels. All belong to one task."""
    with quiet():
        from avalanche.benchmarks import tensors_benchmark

        benchmark = tensors_benchmark(
            train_tensors=parts,
            test_tensors=parts[:1],
            task_labels=[0] * len(parts),
            complete_test_set_only=True,
        )
        return list(benchmark.train_stream)


def _construct(imported: ImportedClass, common: Mapping[str, Any]) -> Any:
    parameters = inspect.signature(imported.cls).parameters
    arguments = _known(imported.cls, common) | imported.arguments
    missing = [name for name, parameter in parameters.items() if _is_required(parameter) and name not in arguments]
    if missing:
        short = imported.name.split("(")[0]
        raise DataError(f"{imported.name} needs {', '.join(missing)}: say {short}({missing[0]}=...)")
    try:
        return imported.cls(**arguments)
    except (TypeError, ValueError) as error:
        raise DataError(f"{imported.name} cannot be made: {error}") from error


def _known(cls: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments for which the constructor of `cls` has parameters."""
    parameters = inspect.signature(cls).parameters
    return {key: value for key, value in arguments.items() if key in parameters}


def _is_required(parameter: inspect.Parameter) -> bool:
    is_variadic = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    return parameter.default is parameter.empty and not is_variadic


def _by_short_name(name: str) -> tuple[Any, dict[str, Any]]:
    path, arguments = parse(name)
    known = {key.lower().replace("_", "-"): value for key, value in vars(import_module(SUPERVISED)).items()}
    names = sorted(key for key, value in known.items() if isinstance(value, type) and SUPERVISED in value.__module__)
    short = path.removeprefix(PREFIX)
    if short not in names:
        raise DataError(f"no strategy {path!r}: there are {', '.join(PREFIX + known_name for known_name in names)}")
    return known[short], arguments
