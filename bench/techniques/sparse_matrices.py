"""Measures row E9: feed-forward matrices in which most blocks are zero.

    the layer      384 x 1536 and 1536 x 384, one thread, beside float32 and our dense INT8       bench/sparse.py
    the encoder    MiniLM, pruned gradually while it learns from its dense self on CLINC150's training texts, without
                   labels --> closed-form heads --> accuracy on the test texts; time of 64 texts; bytes

Dense and pruned encoders are served in INT8. Both get a head of their own, as the learner makes it when an encoder is
adopted.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from torch import Tensor

from bench.harness.case import Bar, Run, Technique
from bench.harness.texts import some_texts
from bench.harness.timing import fastest_in_turns_s, one_thread
from bench.sparse import CSR, DENSE, FLOAT, ONEDNN, OURS, SHARES, SparseTimes, crossover, times
from bench.sparse import ROUNDS as LAYER_ROUNDS
from bench.techniques.tasks import SAY_EVERY, load_tasks, served_encoder, task_accuracy, tokenize
from evals.results.row import Peer, Row
from kernels.allocator import keep_freed_memory
from lifelong.compress.distillation import DistillOptions
from lifelong.compress.sparsity import (
    SparseDistiller,
    Sparsity,
    attach_sparse_grids,
    feed_forward_matrices,
    most_important,
)
from model.bert import load_encoder
from model.calibration import grams, smooth
from model.linears import linear_at
from model.qtensor import QTensor
from model.quantized import INT8, QuantizedEncoder
from model.ragged import RaggedBatch
from model.strata import Strata
from model.tokenizer import TextTokenizer
from model.weights import encoder_tensors

SHARE = 0.8
HIGH = 0.9
LOW = 0.6

STEPS = {LOW: 500, SHARE: 1_000}
BATCH = 32
RATE = 2e-4

NUM_TEXTS = 64
ROUNDS = 7
SLICE_S = 0.3


def measure(run: Run) -> Iterator[Row]:
    """Yields the speed of the layer, then the accuracy, speed and bytes of the encoder. Raises Skip without data."""
    with one_thread():
        yield from _layer_rows(run)
    dense, tokenizer = load_encoder("minilm-l6")
    dense.requires_grad_(False)
    if run.is_quick:
        yield from _encoder_rows(run, dense, _untrained(dense), tokenizer)
        return
    (task,) = load_tasks(run, ("clinc150",), train=15_000, test=4_500)
    token_ids = tokenize(tokenizer, task.train)
    before = task_accuracy(served_encoder(dense, tokenizer), task)
    run.say(f"dense: {before:.2f} %")
    for share, steps in STEPS.items():
        options = DistillOptions(steps=steps, batch=BATCH, rate=RATE, seed=run.seed)
        pruned = _pruned(run, share, tokenizer, token_ids, options)
        after = task_accuracy(served_encoder(pruned, tokenizer), task)
        note = f"dense {before:.2f} %, pruned {after:.2f} %; {steps} steps of {BATCH} texts"
        yield run.row(f"loss_{100 * share:.0f}", round(before - after, 2), note=note)
        if share == SHARE:
            yield from _encoder_rows(run, dense, pruned, tokenizer)


def _layer_rows(run: Run) -> Iterator[Row]:
    keep_freed_memory()
    rows = (64,) if run.is_quick else (16, 64, 128)
    shares = (SHARE,) if run.is_quick else SHARES
    measured = list(times(rows=rows, shares=shares, rounds=run.amount(1, LAYER_ROUNDS)))
    of_share = [each for each in measured if each.share == SHARE]
    yield _ratio_row(run, "float32_80", of_share, FLOAT, ONEDNN)
    yield _ratio_row(run, "int8_80", [each for each in of_share if each.num_rows >= 64], DENSE)
    if run.is_quick:
        return
    yield _ratio_row(run, "int8_90", [each for each in measured if each.share == HIGH and each.num_rows >= 64], DENSE)
    curve = [each for each in measured if (each.num_out, each.num_rows) == (1536, 64)]
    found = crossover(curve, OURS, DENSE)
    note = ", ".join(f"{each.share:.0%} of zeros: {_shown(each.us)}" for each in curve)
    peers: tuple[Peer, ...] = ()
    if all(CSR in each.us for each in curve):
        of_csr = crossover(curve, CSR, FLOAT)
        peers = () if of_csr is None else (Peer(f"{CSR} against {FLOAT}", 100 * of_csr),)
        note += f"; {CSR} is never faster than {FLOAT}" if of_csr is None else ""
    yield run.row("crossover", None if found is None else 100 * found, peers=peers, note=note)


def _ratio_row(run: Run, bar: str, measured: Sequence[SparseTimes], *names: str) -> Row:
    """Returns the row of the smallest speed-up over the fastest of the named layers."""
    worst = min(measured, key=lambda each: each.faster_than(*names))
    note = f"at {worst.num_rows} rows of {worst.num_out} x {worst.num_in}: {_shown(worst.us)}"
    return run.row(bar, round(worst.faster_than(*names), 2), note=note)


def _shown(us: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f} us" for name, value in us.items())


def _pruned(
    run: Run, share: float, tokenizer: TextTokenizer, token_ids: Sequence[list[int]], options: DistillOptions
) -> Strata:
    """Returns MiniLM with sparse feed-forward matrices, as `lifelong model prune --sparse` makes it."""
    teacher, _ = load_encoder("minilm-l6")
    student, _ = load_encoder("minilm-l6")
    moments = _moments(student.requires_grad_(True), tokenizer)
    sparsity = Sparsity(share=share, moments=moments)
    distiller = SparseDistiller(student, teacher.requires_grad_(False), token_ids, options, sparsity)
    while not distiller.is_done:
        losses = distiller.step()
        if distiller.num_done % SAY_EVERY == 0:
            run.say(f"{distiller.share:.0%} zero after {distiller.num_done} steps, cosine {1 - losses.cosine:.4f}")
    attach_sparse_grids(student.requires_grad_(False), distiller.masks)
    return student


def _moments(strata: Strata, tokenizer: TextTokenizer) -> dict[str, Tensor]:
    gram_by_name = grams(strata, tokenizer)
    smooth(strata, gram_by_name)
    return {name: gram_KK.diagonal().clone() for name, gram_KK in gram_by_name.items()}


def _untrained(dense: Strata) -> Strata:
    """Returns a copy whose least important blocks are zero, without training: as fast as a trained one."""
    copied, tokenizer = load_encoder("minilm-l6")
    moments = _moments(copied.requires_grad_(False), tokenizer)
    masks: dict[str, Tensor] = {}
    for name in feed_forward_matrices(dense):
        masks[name] = most_important(linear_at(copied, name).weight, moments[name], SHARE)
    attach_sparse_grids(copied, masks)
    return copied


def _encoder_rows(run: Run, dense: Strata, pruned: Strata, tokenizer: TextTokenizer) -> Iterator[Row]:
    """Yields how much faster the pruned encoder is on real texts, one thread, and the bytes that it saves."""
    stored = [encoder_tensors(strata) for strata in (dense, pruned)]
    batch = RaggedBatch.of(tokenizer.encode_many(some_texts(NUM_TEXTS)))
    encoders = [QuantizedEncoder.from_tensors(dense.config, tensors) for tensors in stored]
    works = {
        name: partial(encoder.encode, batch, INT8) for name, encoder in zip(("dense", "pruned"), encoders, strict=True)
    }
    with one_thread():
        shortest_s = fastest_in_turns_s(works, SLICE_S, rounds=run.amount(1, ROUNDS))
    dense_s, pruned_s = shortest_s["dense"], shortest_s["pruned"]
    note = f"dense {1e3 * dense_s:.2f} ms, pruned {1e3 * pruned_s:.2f} ms"
    yield run.row("texts", round(dense_s / pruned_s, 3), note=note)
    dense_bytes, pruned_bytes = (_feed_forward_bytes(tensors) for tensors in stored)
    note = f"{dense_bytes / 1e6:.2f} MB become {pruned_bytes / 1e6:.2f} MB"
    yield run.row("bytes", round(100 * (1 - pruned_bytes / dense_bytes), 1), note=note)


def _feed_forward_bytes(tensors: Mapping[str, QTensor]) -> int:
    return sum(len(tensor.to_blob()) for name, tensor in tensors.items() if name.endswith((".up", ".down")))


TECHNIQUE = Technique(
    title="sparse matrices",
    claim="The article speeds up pruned models by compressed sparse rows (CSR).",
    how=(
        "Blocks of 16 outputs by four inputs, INT8. The layer: 1536 x 384 and 384 x 1536, 16, 64 and 128 rows, one "
        "thread, all layers in turn; the smallest speed-up counts. The encoder: MiniLM's feed-forward matrices, pruned "
        f"gradually in {STEPS[LOW]} and {STEPS[SHARE]} steps of {BATCH} of CLINC150's training texts without labels."
    ),
    bars=(
        Bar(
            "float32_80",
            "times as fast as float32 at 80 % of zeros",
            ">= 7",
            baseline="the faster of torch's linear layer and oneDNN's, in float32",
        ),
        Bar(
            "int8_80",
            "times as fast as dense INT8 at 80 % of zeros, 64 rows or more",
            ">= 1.6",
            baseline="our own dense INT8 layer",
        ),
        Bar(
            "int8_90",
            "times as fast as dense INT8 at 90 % of zeros, 64 rows or more",
            ">= 2.8",
            baseline="our own dense INT8 layer; 2306.16601 reports up to 5x over dense oneDNN",
        ),
        Bar(
            "crossover",
            "% of zeros from which on the sparse layer is faster, 1536 x 384, 64 rows",
            baseline="our own dense INT8 layer; for torch's CSR, torch's linear layer",
        ),
        Bar("loss_60", "points of accuracy on CLINC150, 60 % of zeros", "<= 0.5", baseline="the dense encoder in INT8"),
        Bar("loss_80", "points of accuracy on CLINC150, 80 % of zeros", "<= 1.5", baseline="the dense encoder in INT8"),
        Bar(
            "texts",
            "times as fast on 64 texts of CLINC150, 80 % of zeros, one thread",
            ">= 1.25",
            baseline="the dense encoder in INT8",
        ),
        Bar(
            "bytes",
            "% of the bytes of the feed-forward matrices saved, 80 % of zeros",
            ">= 78",
            quick=">= 78",
            baseline="INT8 with INT4 inside, as versions ship it",
        ),
    ),
)
