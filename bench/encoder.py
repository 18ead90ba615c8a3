"""Measures the encoder alone, compared with the best peers on the same weights and texts, and with the hardware limit.

    one thread: every workload is raced; INT4 against INT8
    all threads: 64 real texts; one process with all threads against one process for each core
    then: the time to pack a whole version

**Timing.** An encoder is timed from token ids to vectors, layout or padding included. Tokenization is the same for all
and is not included. "Equal accuracy" is a mean cosine to full precision of at least 0.999, or of at least ours if ours
is lower. The floor of a workload is the least time of its matrices on this machine (bench/hardware_limit.py), which is
measured within the same minutes.

**Peers.** A goal against peers is judged only if all peers ran, each with the best of all its settings. A peer whose
precision the processor would emulate is left out, and the row's note says so. If all benchmarks run, peers are started,
compiled and searched for at most PEERS_S; peers that are not ready then are missing. Exported models and tried settings
are kept, so that the next call continues from there.

Rejected: a mean over many turns. Other processes only add time, and not equally to all encoders.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass

from rich.console import Console

from bench.harness.case import Run
from bench.harness.process import PeerFailed, run_module
from bench.peers.engines import OURS, OURS_INT4, PEAK, PEERS, READ
from bench.peers.field import Field, Runner, Say, prepare_all, running_encoders
from bench.peers.race import Race, disturbance, summary
from bench.peers.workloads import EIGHT_LONG, NATURAL, ONE_LONG, ONE_SHORT, ONE_TOKEN, SHORT, WORKLOADS, Workload
from evals.results.row import Gaps, Peer, Row
from services.cores import num_cores

FLOOR = ">= 75"
DISTURBED = 1.1
INT4_TIME = {ONE_SHORT: "<= 1.2", ONE_TOKEN: "<= 1"}
PAIR_ROUNDS = 5
PAIR_S = 0.8
PEERS_S = 240.0


@dataclass(frozen=True, slots=True)
class Goals:
    """The goals of a workload: our speed over the fastest peer's and over the fastest accurate peer's, and the floor.

    `floor` is the goal for the hardware limit over our time, in percent.
    """

    fastest: float | None = None
    accurate: float | None = None
    floor: str | None = None


GOALS: Mapping[Workload, Goals] = {
    ONE_SHORT: Goals(fastest=1.8, floor=FLOOR),
    NATURAL: Goals(fastest=1.75, accurate=2.2, floor=FLOOR),
    **dict.fromkeys(SHORT, Goals(accurate=1.3)),
    EIGHT_LONG: Goals(fastest=1.25),
    ONE_LONG: Goals(fastest=1.25),
}


@dataclass(frozen=True, slots=True)
class MachineLimits:
    """The limits of the machine: INT8 operations a second, the layer that reached them, and the time to read all
    matrices."""

    peak_per_s: float
    peak_of: str
    read_ms: float

    def floor_ms(self, operations: int) -> float:
        """Returns the least time, in ms, of `operations` operations with all matrices."""
        return max(1e3 * operations / self.peak_per_s, self.read_ms)

    def limit(self, operations: int) -> str:
        """Returns which limit `floor_ms` is: the peak's layer, or reading all matrices."""
        return self.peak_of if self.floor_ms(operations) > self.read_ms else "reading all matrices"


def measure(run: Run) -> Iterator[Row]:
    deadline_s = run.deadline_s(PEERS_S)
    with running_encoders((OURS, OURS_INT4, PEAK, READ, *PEERS), 1, run.say, deadline_s) as field:
        yield from _race_all(field, WORKLOADS, run.say)
        for work in INT4_TIME:
            eight, four = (field.runners[name].prepare(work) for name in (OURS, OURS_INT4))
            yield _int4(Race(work, eight, (four,)))
    if (num_threads := num_cores()) > 1:
        with running_encoders((OURS, PEAK, READ, *PEERS), num_threads, run.say, deadline_s) as field:
            yield from _race_all(field, (NATURAL,), run.say)
            yield _replicas(field.runners[OURS])
    packed = run_module("bench.peers.ours", "swap")
    yield Row.of("encoder.swap", round(packed["ms"], 1), "ms to pack all", goal="<= 100")
    share = round(packed["int4_bytes"] / packed["int8_bytes"], 3)
    yield Row.of("encoder.int4.memory", share, "x INT8", goal="<= 0.53")


def _race_all(field: Field, works: Sequence[Workload], say: Say) -> Iterator[Row]:
    """Races the workloads. Yields the rows of each after its race, and the rows of the floors after all races."""
    runners = field.runners
    num_threads = runners[OURS].num_threads
    peak, read = (runners[name].prepare(works[0]) for name in (PEAK, READ))
    races: list[Race] = []
    for work in works:
        say(f"encoder: {work.name}: preparing encoders ...")
        entries, broken = prepare_all(field, work, say)
        race = Race(work, entries[OURS], tuple(entries[name] for name in PEERS if name in entries))
        peak.run()
        race.run()
        peak.run()
        read.run()
        races.append(race)
        for name, reason in race.broken.items():
            say(f"encoder: {name}: broke at {work.name}: {reason}")
        missing = (*field.missing, *broken, *race.broken)
        yield from _rows(race, _name(work.name, num_threads), missing=missing, note=field.note)
    Console(width=140).print(summary(races))
    if num_threads == 1 and (times := disturbance(races)) > DISTURBED:
        say(f"Other processes were running: a turn took {times:.2f} times its processor time. Processor time counts.")
    limits = MachineLimits(peak.operations / (1e-3 * peak.best_ms), peak.how, read.best_ms)
    for race in races:
        yield _floor(race, _name(race.workload.name, num_threads), limits)
    peak_row = _name("peak", num_threads)
    yield Row.of(peak_row, round(limits.peak_per_s / 1e9), "INT8 GOP/s", note=peak.how)
    yield Row.of(_name("read", num_threads), round(limits.read_ms, 3), "ms to read all matrices")


def _rows(race: Race, name: str, *, missing: tuple[str, ...], note: str) -> Iterator[Row]:
    goals = GOALS[race.workload]
    value = round(race.workload.texts_per_s(race.ours.ms), 1)
    for suffix, entries, times in (("", race.fastest, goals.fastest), (".accurate", race.accurate, goals.accurate)):
        peers = tuple(Peer(entry.name, round(race.workload.texts_per_s(entry.ms), 1)) for entry in entries)
        goal = None if times is None else f">= {times}x"
        unit = "texts/s"
        yield Row.of(
            name + suffix,
            value,
            unit,
            goal=goal,
            peers=peers,
            gaps=Gaps(missing=missing, unfinished=race.unfinished),
            note=note,
        )


def _floor(race: Race, name: str, limits: MachineLimits) -> Row:
    operations = race.ours.operations
    share = round(100 * limits.floor_ms(operations) / race.ours.ms, 1)
    note = f"the limit: {limits.limit(operations)}"
    return Row.of(f"{name}.floor", share, "% of the limit", goal=GOALS[race.workload].floor, note=note)


def _int4(race: Race) -> Row:
    """Times our two precisions in turns. Raises PeerFailed if INT4 breaks: our own encoder must not be missing."""
    (four,) = race.peers
    race.run()
    for name, reason in race.broken.items():
        raise PeerFailed(f"{name} broke at {race.workload.name}: {reason}")
    value = round(four.ms / race.ours.ms, 2)
    goal = INT4_TIME[race.workload]
    return Row.of(f"encoder.int4.{race.workload.name}", value, "x INT8's time", goal=goal)


def _replicas(one: Runner) -> Row:
    """Compares one single-threaded process for each core, all running at once, with one process with all threads."""
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
    return Row.of(f"encoder.{num}_processes", round(statistics.median(together), 1), "texts/s", peers=(peer,))


def _name(work: str, num_threads: int) -> str:
    return f"encoder.{work}" if num_threads == 1 else f"encoder.{work}.{num_threads}_threads"
