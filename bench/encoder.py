"""The encoder alone, ours against the best of others on the same weights and texts, and against the machine.

    one thread: every work is raced; INT4 against INT8        all threads: 64 real texts; one of us against two
    then: what packing a whole version takes

Timed from token ids to vectors, layout or padding included; tokenising is the same for all and is not. "Equal
accuracy" is a mean cosine to full precision of 0.999, or ours where ours is lower. The floor of a work (bench/floor.py)
is the least time that its matrices take on this machine, which is measured in the same minutes.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from rich.console import Console

from bench.fixtures import Fixtures
from bench.peers.engines import OURS, OURS_INT4, PEAK, PEERS, READ
from bench.peers.race import Contestant, Race, disturbance
from bench.peers.runner import Runner
from bench.peers.summary import summary
from bench.peers.workloads import EIGHT_LONG, NATURAL, ONE_LONG, ONE_SHORT, ONE_TOKEN, SHORT, WORKLOADS, Workload
from bench.process import PeerFailed, run_module
from bench.row import Goal, Peer, Row, Skip
from services.tune.table import num_cores

FLOOR = Goal(">=", 75)


@dataclass(frozen=True, slots=True)
class Goals:
    """How often as fast as the fastest peer, and as the best of equal accuracy; and the floor over our time, in %."""

    fastest: float | None = None
    accurate: float | None = None
    floor: Goal | None = None


GOALS: Mapping[Workload, Goals] = {
    ONE_SHORT: Goals(fastest=1.8, floor=FLOOR),
    NATURAL: Goals(fastest=1.75, accurate=2.2, floor=FLOOR),
    **dict.fromkeys(SHORT, Goals(accurate=1.3)),
    EIGHT_LONG: Goals(fastest=1.25),
    ONE_LONG: Goals(fastest=1.25),
}


@dataclass(frozen=True, slots=True)
class MachineLimits:
    """The limits of the machine: INT8 operations a second, and the time to read all matrices."""

    peak_per_s: float
    read_ms: float

    def floor_ms(self, operations: int) -> float:
        """The least time that so many operations with all matrices take."""
        return max(1e3 * operations / self.peak_per_s, self.read_ms)


DISTURBED = 1.1
INT4_TIME = {ONE_SHORT: Goal("<=", 1.2), ONE_TOKEN: Goal("<=", 1.0)}
PAIR_ROUNDS = 5
PAIR_S = 0.8


def measure(fixtures: Fixtures) -> Iterator[Row]:
    console = Console(width=140)
    with started((OURS, OURS_INT4, PEAK, READ, *PEERS), 1, console) as runners:
        yield from _raced(runners, WORKLOADS, console)
        yield from _int4(runners)
    if (num_threads := num_cores()) > 1:
        with started((OURS, PEAK, READ, *PEERS), num_threads, console) as runners:
            yield from _raced(runners, (NATURAL,), console)
            yield _replicas(runners[OURS])
    packed = run_module("bench.peers.ours_pack", "1")
    yield Row(name="encoder.swap", value=round(packed["ms"], 1), unit="ms to pack all", goal=Goal("<=", 100))
    share = round(packed["int4_bytes"] / packed["int8_bytes"], 3)
    yield Row(name="encoder.int4.memory", value=share, unit="x INT8", goal=Goal("<=", 0.53))


@contextmanager
def started(names: Sequence[str], num_threads: int, console: Console) -> Iterator[Mapping[str, Runner]]:
    """Those that can run here; a peer that cannot is said and left out."""
    with ExitStack() as stack:
        runners = {name: stack.enter_context(closing(Runner(name, num_threads))) for name in names}
        there: dict[str, Runner] = {}
        for name, runner in runners.items():
            try:
                runner.wait()
                there[name] = runner
            except (Skip, PeerFailed) as why:
                if name not in PEERS:
                    raise
                console.print(f"encoder: {name}: skipped: {why}", markup=False)
        yield there


def _raced(runners: Mapping[str, Runner], works: Sequence[Workload], console: Console) -> Iterator[Row]:
    num_threads = runners[OURS].num_threads
    peak, read = (runners[name].prepare(works[0]) for name in (PEAK, READ))
    races: list[Race] = []
    for work in works:
        entries = _prepared(runners, work, console)
        races.append(Race(work, entries[OURS], tuple(entries[name] for name in PEERS if name in entries)))
        peak.run()
        races[-1].run()
        peak.run()
        read.run()
    console.print(summary(races))
    if num_threads == 1 and (times := disturbance(races)) > DISTURBED:
        console.print(f"Others were at work: a turn took {times:.2f} times its processor's time, which is what counts.")
    limits = MachineLimits(peak.operations / (1e-3 * peak.best_ms), read.best_ms)
    for race in races:
        yield from _rows(race, _name(race.workload.name, num_threads), limits)
    yield Row(name=_name("peak", num_threads), value=round(limits.peak_per_s / 1e9), unit="INT8 GOP/s")
    yield Row(name=_name("read", num_threads), value=round(limits.read_ms, 3), unit="ms to read all matrices")


def _prepared(runners: Mapping[str, Runner], work: Workload, console: Console) -> dict[str, Contestant]:
    """Ours and the peers'. Where each has one thread, as many are prepared at a time as there are cores."""

    def prepare(runner: Runner) -> Contestant | None:
        try:
            return runner.prepare(work)
        except PeerFailed as why:
            if runner.name not in PEERS:
                raise
            console.print(f"encoder: {runner.name}: no {work.name}: {why}", markup=False)
            return None

    chosen = [runner for name, runner in runners.items() if name in (OURS, *PEERS)]
    with ThreadPoolExecutor(max(1, num_cores() // chosen[0].num_threads)) as threads:
        return {entry.name: entry for entry in threads.map(prepare, chosen) if entry}


def _rows(race: Race, name: str, limits: MachineLimits) -> Iterator[Row]:
    goals = GOALS[race.workload]
    value = round(race.workload.texts_per_s(race.ours.ms), 1)
    for suffix, peers, times in (("", race.fastest, goals.fastest), (".accurate", race.accurate, goals.accurate)):
        peer = Peer(peers[0].name, round(race.workload.texts_per_s(peers[0].ms), 1)) if peers else None
        goal = None if times is None else Goal(">=", times, of_peer=True)
        yield Row(name=name + suffix, value=value, unit="texts/s", goal=goal, peer=peer)
    share = limits.floor_ms(race.ours.operations) / race.ours.ms
    yield Row(name=f"{name}.floor", value=round(100 * share, 1), unit="% of the limit", goal=goals.floor)


def _int4(runners: Mapping[str, Runner]) -> Iterator[Row]:
    """Our two precisions in turns."""
    for work, goal in INT4_TIME.items():
        eight, four = (runners[name].prepare(work) for name in (OURS, OURS_INT4))
        Race(work, eight, (four,)).run()
        yield Row(name=f"encoder.int4.{work.name}", value=round(four.ms / eight.ms, 2), unit="x INT8's time", goal=goal)


def _replicas(one: Runner) -> Row:
    """Measures one process of one thread for each core, all at once, against one process with all threads."""
    num = one.num_threads
    with ExitStack() as stack:
        many = [stack.enter_context(closing(Runner(OURS, 1))) for _ in range(num)]
        threads = stack.enter_context(ThreadPoolExecutor(num))
        for runner in many:
            runner.wait()
            runner.prepare(NATURAL)
        together: list[float] = []
        single: list[float] = []
        for _ in range(PAIR_ROUNDS):
            turns = threads.map(lambda runner: runner.run(NATURAL, PAIR_S), many)
            together.append(sum(NATURAL.texts_per_s(turn.ms) for turn in turns))
            single.append(NATURAL.texts_per_s(one.run(NATURAL, PAIR_S).ms))
    peer = Peer(f"ours, one process of {num} threads", round(statistics.median(single), 1))
    return Row(name=f"encoder.{num}_processes", value=round(statistics.median(together), 1), unit="texts/s", peer=peer)


def _name(work: str, num_threads: int) -> str:
    return f"encoder.{work}" if num_threads == 1 else f"encoder.{work}.{num_threads}_threads"
