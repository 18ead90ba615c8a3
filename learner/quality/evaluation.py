"""Measures a candidate before it may be published, compared with its parent and with the anchor.

    holdout samples --candidate, parent--> right or wrong, predicted classes
                    --candidate, choosing among the anchor's classes--> forgotten samples
                    --free energy of the logits--> quantiles, and the error rate of the answers above each quantile
    weights of candidate and parent --> norm of the update
    labels are sets   --> micro-F1, 2 TP / (predicted + labelled) over all holdout samples
    labels are scores --> mean absolute error

**Figures.** Micro-F1 and the mean absolute error are only reported. The gate and the rollout decide by the number of
right answers, since a count of paired events has exact tests and bounds. A set counts as right with the probability of
its F1, and a score with the probability 1 - error (`wire.kinds`). Micro-F1 is a quotient of sums over events, so each
decision by it would need resampling.

**Certainty.** The certainty tells replicas which texts to refuse (selective prediction). If a text belongs to none of
the classes, every class is unlikely, so its free energy, the log of the sum of exp(logit / T), is low (Liu et al. 2020,
arXiv:2010.03759). A setting of the replica chooses the threshold: by the share of texts of known classes that may be
refused, or by the error rate among the answers that are not refused (the risk). The risk is bounded from above by the
relative-entropy bound (Chernoff 1952; Langford 2005, theorem 3.3). The error probability of the bound is divided by the
steps of a binary search over the thresholds. So the bound also holds for the threshold that the search finds (Geifman
and El-Yaniv 2017, arXiv:1705.08500, theorem 3.2).

Measured on CLINC150 (frozen MiniLM, 15,000 training texts; `tests/flow/test_out_of_scope.py`). T was chosen on the
validation texts. The threshold was fitted on them so that 95 % of the texts in scope are answered. The table has the
AUROC of the 4,500 test texts in scope against the 1,000 texts out of scope, and the share of the latter that is
refused:

    largest probability                       95.8 %   74.0 %     the answer's `score`
    margin of the best two                    93.6 %   59.8 %
    largest logit                             96.5 %   81.0 %
    free energy                               97.0 %   84.4 %     96.9 and 83.8 % as served, in INT8
    cosine to the nearest class mean          96.6 %   81.4 %
    5th nearest neighbour                     96.1 %   80.0 %     needs all training texts
    Mahalanobis, relative (Ren et al. 2021)   97.4 %   87.6 %     needs two matrices of the width in each version
    logit less twice the leverage             97.6 %   86.6 %     needs the inverse Gram matrix in each version

Shapes: N samples, C classes, Q quantiles.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import msgspec
import torch
from msgspec import UNSET
from torch import Tensor

from learner.encoder.served import ServedEncoder, export_head
from learner.fast.fast_head import FastHead
from learner.memory import Holdout
from learner.quality.class_weights import NO_WEIGHTS, RankedClass, Weighted, rank_classes
from learner.quality.comparison import Anchor, Comparison, Paired, ScoredHoldout, compare, make_anchor
from learner.samples import Labelled
from model.grid import is_grid_part
from model.head import free_energies
from model.kinds import UNIT, Space, TargetBatch
from model.quantized import QuantizedHead
from wire.records import Certainty, CohortEvaluation, Evaluation


class ScoredVersion(NamedTuple):
    """A version of the model, with everything that is needed to score it and to compare another version with it.

    - `weights_CR`: the weights of the head before they are divided by the temperature and rounded.
    - `top`: the weights of the trained blocks.
    - `base`: the key of the base encoder under these blocks (`learner.encoder.base`).
    """

    served: ServedEncoder
    head: QuantizedHead
    classes: tuple[str, ...]
    weights_CR: Tensor
    top: Mapping[str, Tensor]
    base: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredCandidate:
    """The measurements of a candidate by which the gate decides, except the measurements of its precisions.

    - `record`: which holdout samples the candidate predicted rightly, in the form of an anchor.
    - `num_named`, `num_named_by_parent`: the numbers of classes that candidate and parent predict for some sample.
    - `parent`, `anchor`: the comparisons with the parent and with the anchor.
    - `anchor_version`: the version of the anchor; 0 if there is none.
    - `ranked`: how well the classes with weights are ranked.
    - `figures`: further figures for this kind of label, of the candidate and of its parent. Without a parent, both are
      the candidate's.
    """

    is_finite: bool = True
    num_labels: int = 0
    record: Anchor = field(default_factory=Anchor)
    num_named: int = 0
    num_named_by_parent: int = 0
    parent: Comparison = field(default_factory=Comparison)
    anchor: Comparison = field(default_factory=Comparison)
    anchor_version: int = 0
    worst_class: str = ""
    worst_class_drop: float = 0.0
    head_update: float = 0.0
    top_update: float = 0.0
    certainty: Certainty = field(default_factory=Certainty)
    ranked: Mapping[str, RankedClass] = field(default_factory=dict)
    figures: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def evaluation(self) -> Evaluation:
        """The evaluation for the manifest."""
        parent = self.parent
        anchor = self.anchor
        return Evaluation(
            num_labels=self.num_labels,
            accuracy=len(self.record.right) / max(self.num_labels, 1),
            parent_accuracy=parent.overall.accuracy_before,
            negative_flips=parent.overall.lost / max(parent.overall.num, 1),
            cohorts=tuple(_evaluate_cohort(cohort) for cohort in parent.cohorts),
            worst_class=self.worst_class,
            worst_class_drop=self.worst_class_drop,
            anchor=self.anchor_version,
            anchor_labels=anchor.overall.num,
            anchor_accuracy=anchor.overall.accuracy_before,
            accuracy_beside_anchor=anchor.overall.accuracy,
            head_update=self.head_update,
            top_update=self.top_update,
            average_precision={label: (each.value, each.parent) for label, each in self.ranked.items()} or UNSET,
            **_figure_fields(self.figures),
        )

    def next_anchor(self, anchor: Anchor | None, version: int) -> Anchor:
        """Returns the anchor after this candidate is published as `version`."""
        num_known = len(self.record.right) + len(self.record.wrong)
        if anchor is None or anchor.is_superseded(self.anchor, num_known):
            return msgspec.structs.replace(self.record, version=version)
        return anchor


def _figure_fields(figures: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """Returns the figures as fields of `Evaluation`. Figures without a field of their own go to the field `figures`."""
    own = {name: pair for name, pair in figures.items() if name in Evaluation.__struct_fields__}
    others = {name: pair for name, pair in figures.items() if name not in own}
    return {**own, "figures": others or UNSET}


def _evaluate_cohort(cohort: Paired) -> CohortEvaluation:
    return CohortEvaluation(num_labels=cohort.num, accuracy=cohort.accuracy, parent_accuracy=cohort.accuracy_before)


def measure(
    new: ScoredVersion,
    parent: ScoredVersion | None,
    anchor: Anchor | None,
    holdout: Holdout,
    weighted: Weighted = NO_WEIGHTS,
    *,
    space: Space = UNIT,
) -> MeasuredCandidate:
    """Measures `new` on the holdout samples, and compares it with its parent and with the anchor if they exist.

    `space` is the label space of the settings.
    """
    scored = _score(new, holdout)
    scored_parent = None if parent is None else _score(parent, holdout)
    measured = measure_scored(scored, scored_parent, anchor)
    figures = measure_figures(scored, scored_parent or scored, space)
    measured = replace(measured, ranked=rank_classes(weighted, scored, scored_parent), figures=figures)
    if parent is None:
        return measured
    return replace(measured, head_update=head_update(new, parent), top_update=top_update(new, parent))


def measure_figures(new: ScoredHoldout, other: ScoredHoldout, space: Space) -> dict[str, tuple[float, float]]:
    """Returns the figures that this kind of label defines, by name: (of `new`, of `other`)."""
    own = new.targets.figures(new.logits_NC, space)
    others = other.targets.figures(other.logits_NC, space)
    return {name: (value, others[name]) for name, value in own.items() if name in others}


def measure_scored(new: ScoredHoldout, parent: ScoredHoldout | None, anchor: Anchor | None) -> MeasuredCandidate:
    """Returns the measurements that can be made from the logits for the holdout alone."""
    right_N = new.right_N
    rows_N = new.targets.rows_N
    measured = MeasuredCandidate(
        is_finite=bool(new.logits_NC.isfinite().all()),
        num_labels=len(new.samples),
        record=make_anchor(new.samples, right_N, rows_N, len(new.classes)),
        num_named=new.num_named,
        certainty=fit_certainty(new.logits_NC, right_N, rows_N >= 0) if new.targets.is_exclusive else Certainty(),
    )
    if parent is not None:
        measured = _compare_with_parent(measured, new, parent)
    if anchor is not None:
        comparison = anchor.compare_with(new.samples, new.logits_NC, new.targets)
        measured = replace(measured, anchor=comparison, anchor_version=anchor.version)
    return measured


@dataclass(frozen=True, slots=True)
class HeadOnHoldout:
    """A fast head as of now, with the holdout's vectors z_ND under its encoder. `solve` returns its weights_CR.

    So the head can be scored later, in another thread.
    """

    solve: Callable[[], Tensor]
    served: ServedEncoder
    samples: Sequence[Labelled]
    classes: tuple[str, ...]
    z_ND: Tensor
    targets: TargetBatch
    threshold: float = 0.0

    def score(self) -> ScoredHoldout:
        """Solves the head; returns its logits for the holdout samples."""
        temperature = self.targets.default_temperature
        out = export_head(self.served.config, self.solve(), temperature=temperature, threshold=self.threshold)
        logits_NC = self.served.head(out).logits(self.z_ND, len(self.classes))
        return ScoredHoldout(self.samples, self.classes, logits_NC, self.targets)


def head_on_holdout(fast_head: FastHead, holdout: Holdout, solve: Callable[[], Tensor]) -> HeadOnHoldout:
    """Returns `fast_head` as of now, with the vectors of the holdout samples. `solve` returns the head's weights_CR."""
    classes = fast_head.ridge.classes
    z_ND, targets = holdout.vectors(fast_head.served, classes)
    samples = holdout.samples.samples()
    return HeadOnHoldout(solve, fast_head.served, samples, classes, z_ND, targets, fast_head.threshold)


def measure_heads(new: HeadOnHoldout, old: HeadOnHoldout, anchor: Anchor | None) -> MeasuredCandidate:
    """Measures the fast head `new` on the holdout samples, with `old` as its parent."""
    return measure_scored(new.score(), old.score(), anchor)


def _compare_with_parent(measured: MeasuredCandidate, new: ScoredHoldout, parent: ScoredHoldout) -> MeasuredCandidate:
    comparison = compare(parent.right_N, new.right_N, new.targets.rows_N, len(new.classes))
    drops = [paired.drop for paired in comparison.classes]
    drop, worst_class = max(zip(drops, new.classes, strict=True), default=(0.0, ""))
    return replace(
        measured,
        parent=comparison,
        num_named_by_parent=parent.num_named,
        worst_class=worst_class if drop > 0 else "",
        worst_class_drop=max(drop, 0.0),
    )


def _score(version: ScoredVersion, holdout: Holdout) -> ScoredHoldout:
    phi_NR, targets = holdout.features(version.served, version.classes)
    logits_NC = version.head.head_logits(phi_NR, len(version.classes))
    return ScoredHoldout(holdout.samples.samples(), version.classes, logits_NC, targets)


def head_update(new: ScoredVersion, parent: ScoredVersion) -> float:
    """Returns the relative change of the head's weights: the norm of the change over the norm of the parent's weights.

    Only the rows that both heads have count. It is 0 if the base encoders differ, since such heads are not comparable.
    """
    if new.base != parent.base:
        return 0.0
    num_rows = min(len(new.weights_CR), len(parent.weights_CR))
    return relative_norm([(new.weights_CR[:num_rows], parent.weights_CR[:num_rows])])


def top_update(new: ScoredVersion, parent: ScoredVersion) -> float:
    """Returns the relative change of the trained blocks: the norm of the change over their norm in the parent.

    It is 0 if the encoder is the same, or if the base encoders differ.
    """
    if new.top is parent.top or new.base != parent.base:
        return 0.0
    weights = {name: value for name, value in new.top.items() if not is_grid_part(name)}
    return relative_norm((value, parent.top[name]) for name, value in weights.items())


def relative_norm(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Returns |new - old| / |old|, where new and old are split into parts: `pairs` of (new, old). 0 if old is 0."""
    change = 0.0
    norm = 0.0
    for new, old in pairs:
        change += float((new - old).square().sum())
        norm += float(old.square().sum())
    return (change / norm) ** 0.5 if norm else 0.0


ENERGY_TEMPERATURE: Final = 4.0
"""The temperature T of the free energy. The logits are already divided by the head's temperature."""

NUM_QUANTILES: Final = 101

MIN_CERTAINTY_SAMPLES: Final = 50
"""The fewest holdout samples to which a certainty is fitted. With fewer, a percentile would be less than half a sample.
"""

MAX_CERTAINTY_LOGITS: Final = 1 << 22
"""The most logits that are used. With many classes, these are the logits of fewer samples."""

NUM_HALVINGS: Final = 30
"""The number of bisection steps for a risk bound."""

RISK_ERROR: Final = 0.05 / math.ceil(math.log2(NUM_QUANTILES))
"""The error probability of one risk bound: 5 %, divided by the steps of a binary search over the quantiles."""


def fit_certainty(logits_NC: Tensor, is_right_N: Tensor, is_known_N: Tensor) -> Certainty:
    """Returns the certainty of a version from its logits for the holdout samples; empty if there are too few samples.

    Only samples of classes that the version knows count.
    """
    # Every n-th sample, so that there are at most MAX_CERTAINTY_LOGITS logits.
    known_N = is_known_N.nonzero().flatten()[:: logits_NC.numel() // MAX_CERTAINTY_LOGITS + 1]
    num = len(known_N)
    if num < MIN_CERTAINTY_SAMPLES:
        return Certainty()
    energies_N, order_N = free_energies(logits_NC[known_N], ENERGY_TEMPERATURE).sort()
    wrong_N = (~is_right_N[known_N][order_N]).double()
    # The number of wrong samples at or above the energy of each sample.
    wrong_above_N = wrong_N.flip(0).cumsum(0).flip(0)
    index_Q = torch.linspace(0, num - 1, NUM_QUANTILES).round().long()
    risks_Q = risk_bounds(wrong_above_N[index_Q], num - index_Q, RISK_ERROR)
    return Certainty(
        temperature=ENERGY_TEMPERATURE,
        quantiles=tuple(round(value, 4) for value in energies_N[index_Q].tolist()),
        risks=tuple(round(value, 4) for value in risks_Q.tolist()),
        samples=num,
    )


def risk_bounds(wrong_Q: Tensor, num_Q: Tensor, error: float) -> Tensor:
    """Returns upper bounds of the true error rate if `wrong_Q` of `num_Q` answers were wrong, float64 [Q].

    The true rate exceeds a bound with a probability of at most `error`. The bound is the rate p at which
    num * KL(wrong / num, p) = log(1 / error). It is found by bisection.

    >>> risk_bounds(torch.tensor([0.0, 5.0]), torch.tensor([100, 100]), 0.05).round(decimals=3).tolist()
    [0.03, 0.122]
    """
    rate_Q = wrong_Q.double() / num_Q
    max_entropy_Q = -math.log(error) / num_Q
    low_Q = rate_Q.clone()
    high_Q = torch.ones_like(rate_Q)
    for _ in range(NUM_HALVINGS):
        bound_Q = (low_Q + high_Q) / 2
        entropy_Q = torch.xlogy(rate_Q, rate_Q / bound_Q) + torch.xlogy(1 - rate_Q, (1 - rate_Q) / (1 - bound_Q))
        is_above_Q = entropy_Q > max_entropy_Q
        high_Q = torch.where(is_above_Q, bound_Q, high_Q)
        low_Q = torch.where(is_above_Q, low_Q, bound_Q)
    return high_Q
