"""Measures throughput and latency over HTTP and gRPC: our service, and five other servers with the same model.

    for each number of clients (1, 32, 64), with one text and with 16 in a request: our service, then each peer in turn

The model is MiniLM-L6 in INT8 with a head of 150 classes, on all cores of the machine, which the clients share.
Connections are kept open, and a client sends its next request after the answer to the last one. Our service also writes
every answer to disk and publishes it to Kafka, while the peers only answer. Our figures are compared with the best peer
of the same call. Over gRPC, Python's client library takes more processor time than the server.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from bench.harness.case import Run
from bench.harness.process import PeerFailed
from bench.harness.service import changed_environment, running_service
from bench.harness.texts import some_texts
from bench.http_load import Load, over_grpc, over_http, post
from bench.peers.exported import cached, folder
from bench.peers.http_servers import PEERS, HttpPeer, running_peer, split_batches, tensor_body
from bench.peers.onnx_peers import fused_int8
from evals.results.row import Gaps, NoResult, Peer, Row
from model.bert import load_encoder
from model.source import encoder_folder
from services.local.children import free_port
from services.settings import environment_variable

GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
BATCHES = {"one": 1, "batch16": 16}
RATE_GOAL = ">= 2x"
P99_GOAL = "<= 1x"
JUDGED = (32, 64)
"""The numbers of clients that have goals."""

Point = tuple[str, int]
"""A measuring point: the batch in a request (a name of BATCHES), and the number of clients."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpSize:
    """The size of the benchmark."""

    seconds: float = 10.0
    """The duration of each point's measurement."""
    clients: str = "1 32 64"
    """Numbers of clients, split at spaces."""
    peers: str = ""
    """Parts of peers' names, split at spaces, for example `LitServe BentoML`. Empty means all peers."""

    @property
    def measuring_points(self) -> list[Point]:
        return [*product(BATCHES, map(int, self.clients.split()))]

    @property
    def selected_peers(self) -> list[HttpPeer]:
        parts = self.peers.split() or [""]
        return [peer for peer in PEERS if any(map(peer.name.__contains__, parts))]


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(HttpSize(), quick=HttpSize(seconds=1.0, clients="4", peers="FastAPI"))
    texts = some_texts(512)
    with _grpc_port() as grpc_port, running_service() as service:
        run.say("http: our service ...")
        port = service.settings.serving.http_port
        ours = _points(size, lambda batch: _predict_requests(port, texts, batch), port)
        rest = _points(size, lambda batch: _v2_requests(port, texts, batch), port)
        grpc = _grpc(size, grpc_port, texts)
        service.check()
    peers: dict[str, Mapping[Point, Load]] = {}
    missing: list[str] = []
    for peer in size.selected_peers:
        run.say(f"http: {peer.name} ...")
        try:
            with running_peer(peer, model_folder(), texts) as peer_port:
                peers[peer.name] = _peer_points(size, peer, peer_port, texts)
        except NoResult as error:
            run.say(f"http: {peer.name}: missing: {error}")
            missing.append(peer.name)
    missing += [peer.name for peer in PEERS if peer not in size.selected_peers]
    yield from rows(ours, peers, missing)
    yield from grpc_rows(grpc, rest)


def rows(
    ours: Mapping[Point, Load], peers: Mapping[str, Mapping[Point, Load]], missing: Sequence[str]
) -> Iterator[Row]:
    """Yields the rate and the latency of each point, compared with the peers, the best peer first."""
    gaps = Gaps(missing=(*missing,))
    for (name, clients), load in ours.items():
        peer_loads = {peer: loads[name, clients] for peer, loads in peers.items()}
        rates = [Peer(peer, each.requests_per_s) for peer, each in peer_loads.items()]
        latencies = [Peer(peer, each.p99_ms) for peer, each in peer_loads.items()]
        rates.sort(key=lambda peer: -peer.value)
        latencies.sort(key=lambda peer: peer.value)
        is_judged = clients in JUDGED
        figures = (
            ("", load.requests_per_s, "requests/s", RATE_GOAL, rates),
            (".p99", load.p99_ms, "ms", P99_GOAL, latencies),
        )
        for suffix, value, unit, goal, sorted_peers in figures:
            yield Row.of(
                f"http.{name}.{clients}_clients{suffix}",
                value,
                unit,
                goal=goal if is_judged else None,
                peers=tuple(sorted_peers),
                gaps=gaps,
            )


def grpc_rows(grpc: Mapping[Point, Load], rest: Mapping[Point, Load]) -> Iterator[Row]:
    """Yields the rate over gRPC, compared with the rate of the same protocol over REST."""
    for (name, clients), load in grpc.items():
        peer = Peer("ours, the same in REST", rest[name, clients].requests_per_s)
        goal = ">= 1x" if clients in JUDGED else None
        yield Row.of(f"http.grpc.{name}.{clients}_clients", load.requests_per_s, "requests/s", goal=goal, peers=(peer,))


def model_folder() -> Path:
    """Returns the folder with the model and the tokenizer of the peers. Raises PeerFailed without ONNX Runtime."""
    try:
        strata, _ = load_encoder("minilm-l6")
        model = fused_int8(strata)
    except ImportError as error:
        raise PeerFailed(str(error)) from error
    home = folder(f"http-{model.parent.name}")
    cached(home / "model.onnx", partial(_copy, model))
    tokenizer = encoder_folder("minilm-l6") / "tokenizer.json"
    cached(home / "tokenizer.json", partial(_copy, tokenizer))
    return home


def _copy(source: Path, path: Path) -> None:
    path.write_bytes(source.read_bytes())


@contextmanager
def _grpc_port() -> Iterator[int]:
    """Makes services that start until exit listen for gRPC, too; yields the port."""
    port = free_port()
    with changed_environment(**{environment_variable("serving.grpc_port"): str(port)}):
        yield port


def _points(size: HttpSize, make_requests: Callable[[int], list[bytes]], port: int) -> dict[Point, Load]:
    return {
        (name, clients): over_http(port, make_requests(BATCHES[name]), num_clients=clients, seconds=size.seconds)
        for name, clients in size.measuring_points
    }


def _peer_points(size: HttpSize, peer: HttpPeer, port: int, texts: Sequence[str]) -> dict[Point, Load]:
    return _points(size, lambda batch: peer.requests(port, texts, batch), port)


def _predict_requests(port: int, texts: Sequence[str], batch: int) -> list[bytes]:
    events = [{"text": text} for text in texts]
    return [post("/v1/predict", {"events": each}, port=port) for each in split_batches(events, batch)]


def _v2_requests(port: int, texts: Sequence[str], batch: int) -> list[bytes]:
    return [post("/v2/models/lifelong/infer", tensor_body(each), port=port) for each in split_batches(texts, batch)]


def _grpc(size: HttpSize, port: int, texts: Sequence[str]) -> dict[Point, Load]:
    from serving.grpc.proto import message

    loads: dict[Point, Load] = {}
    for name, clients in size.measuring_points:
        requests: list[bytes] = []
        for each in split_batches(texts, BATCHES[name]):
            request = message("ModelInferRequest")(model_name="lifelong")
            text = request.inputs.add(name="text", datatype="BYTES", shape=[len(each)])
            text.contents.bytes_contents.extend(value.encode() for value in each)
            requests.append(request.SerializeToString())
        loads[name, clients] = over_grpc(port, GRPC_METHOD, requests, num_clients=clients, seconds=size.seconds)
    return loads
