"""Measures row E6: ragged batches on fused kernels, compared with a plain server.

over HTTP, 512 tokens      our service and the plain server, one after the other              plain_server.py
at 512 and 1,024 tokens    our encoder and the plain one, each alone in a process, in turns   lone_server.py
saturated                  the fraction of time in which a replica's engine computes          replica_engine.py
lengths by Zipf            our encoder and the installed peers, each with its best padding    bench/peers
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from bench.harness.case import Bar, Run, Technique
from bench.harness.process import run_module
from bench.harness.service import running_service
from bench.harness.texts import some_texts
from bench.http_load import Load, over_http, post
from bench.peers.engines import OURS as OUR_INT8
from bench.peers.engines import PEERS
from bench.peers.exported import folder
from bench.peers.field import prepare_all, running_encoders
from bench.peers.http_servers import HttpPeer, running_peer
from bench.peers.race import Race
from bench.peers.workloads import ZIPF
from bench.techniques.lone_server import NAMES, OURS, PLAIN
from bench.techniques.replica_engine import busy_share
from bench.techniques.tasks import load_tasks, served_model
from evals.results.row import Peer, Row
from model.bert import load_encoder

LENGTHS = (512, 1024)
ROUNDS = 3

PLAIN_SERVER = HttpPeer(PLAIN, PLAIN, file=Path(__file__).parent / "plain_server.py")
SERVER_TOKENS = 512
NUM_TEXTS = 64
CLIENTS = (1, 8)
"""The clients of the latency, and of the rate."""


def measure(run: Run) -> Iterator[Row]:
    """Yields the figures of each length, and the utilization of the engine.

    A full run also compares the two servers over HTTP, and races the peers.
    """
    for length in LENGTHS:
        yield from _against_plain_server(run, run.amount(length // 8, length), length)
    yield _busy(run)
    if not run.is_quick:
        yield from _servers(run)
        yield _zipf(run)


def _against_plain_server(run: Run, num_tokens: int, length: int) -> Iterator[Row]:
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
    seconds = "0.1" if run.is_quick else "3.0"
    for _ in range(run.amount(1, ROUNDS)):
        for name in NAMES:
            measured[name].append(run_module("bench.techniques.lone_server", name, str(num_tokens), seconds))
    for figure in ("memory", "p50", "rate"):
        ours = median(each[figure] for each in measured[OURS])
        plain = median(each[figure] for each in measured[PLAIN])
        yield run.row(f"{figure}_{length}", round(ours, 2), peers=(Peer(PLAIN, round(plain, 2)),))


def _servers(run: Run) -> Iterator[Row]:
    """Sends the same texts of at least 512 tokens to a running service and to the plain server."""
    words = " ".join(some_texts(NUM_TEXTS)).split()
    # Each text starts at another word, so that no cache has its answer.
    texts = [" ".join((words[start:] + words[:start])[:SERVER_TOKENS]) for start in range(NUM_TEXTS)]
    seconds = run.amount(1, 20)
    with running_service({"serving.max_tokens": SERVER_TOKENS}) as service:
        port = service.settings.serving.http_port
        ours = _loads(port, [post("/v1/predict", {"events": [{"text": text}]}, port=port) for text in texts], seconds)
        service.check()
    with running_peer(PLAIN_SERVER, folder("plain"), texts) as port:
        plain = _loads(port, PLAIN_SERVER.requests(port, texts, 1), seconds)
    for figure, our_value, plain_value in (
        ("server_p50", ours[0].p50_ms, plain[0].p50_ms),
        ("server_rate", ours[1].requests_per_s, plain[1].requests_per_s),
    ):
        yield run.row(figure, our_value, peers=(Peer(PLAIN, plain_value),))


def _loads(port: int, requests: Sequence[bytes], seconds: float) -> list[Load]:
    return [over_http(port, requests, num_clients=clients, seconds=seconds) for clients in CLIENTS]


def _busy(run: Run) -> Row:
    (task,) = load_tasks(run, ("clinc150",), train=1_500, test=4_500)
    strata, tokenizer = load_encoder("minilm-l6")
    model = served_model(strata, tokenizer, task.train)
    texts = [item.text for item in task.test]
    return run.row("busy", round(busy_share(model, tokenizer, texts, seconds=run.amount(1, 10)), 3))


def _zipf(run: Run) -> Row:
    """Races our encoder and its peers on one thread."""
    with running_encoders((OUR_INT8, *PEERS), 1, run.say) as field:
        entries, broken = prepare_all(field, ZIPF, run.say)
        race = Race(ZIPF, entries[OUR_INT8], tuple(entries[name] for name in PEERS if name in entries))
        race.run()
    missing = ", ".join((*field.missing, *broken, *race.broken))
    return run.row(
        "zipf",
        round(ZIPF.texts_per_s(race.ours.ms), 1),
        peers=tuple(Peer(entry.name, round(ZIPF.texts_per_s(entry.ms), 1)) for entry in race.fastest),
        note="; ".join(filter(None, (field.note, f"missing: {missing}" if missing else ""))),
    )


TECHNIQUE = Technique(
    title="batching and fusion",
    claim="The article promises 0.41 of a plain server's memory and latency, 2.67 of its rate, 89 % busy.",
    how=(
        "Servers: one text in a request over HTTP, one client and eight, all cores. Encoders: each alone in a process, "
        "one thread: memory beyond Python and torch, processor time of one text and of batches of 8. Plain: float32 in "
        "eager torch, behind FastAPI. Ours: INT8, and at 1,024 tokens sparse heads (E1)."
    ),
    bars=(
        Bar("server_p50", "ms over HTTP, 512 tokens, one client", "<= 0.41x", baseline="the plain server"),
        Bar("server_rate", "requests/s over HTTP, 512 tokens, eight clients", ">= 2.67x", baseline="the plain server"),
        Bar(
            "memory_512",
            "MiB of the encoder alone, MiniLM at 512 tokens",
            "<= 0.41x",
            quick="<= 1x",
            baseline="the plain encoder",
        ),
        Bar(
            "p50_512",
            "ms of the encoder alone, MiniLM at 512 tokens, one text",
            "<= 0.41x",
            baseline="the plain encoder",
        ),
        Bar("rate_512", "texts/s of the encoder alone, MiniLM at 512 tokens", ">= 2.67x", baseline="the plain encoder"),
        Bar(
            "memory_1024",
            "MiB of the encoder alone, RoPE at 1,024 tokens",
            "<= 0.41x",
            quick="<= 1x",
            baseline="the plain encoder",
        ),
        Bar(
            "p50_1024",
            "ms of the encoder alone, RoPE at 1,024 tokens, one text",
            "<= 0.41x",
            baseline="the plain encoder",
        ),
        Bar(
            "rate_1024", "texts/s of the encoder alone, RoPE at 1,024 tokens", ">= 2.67x", baseline="the plain encoder"
        ),
        Bar(
            "busy",
            "share of the time in which the engine computes, at saturation",
            ">= 0.89",
            baseline="all of the time",
        ),
        Bar(
            "zipf",
            "texts/s, lengths drawn from 8 to 512 by Zipf",
            ">= 1.3x",
            baseline="the best peer that is installed",
        ),
    ),
)
