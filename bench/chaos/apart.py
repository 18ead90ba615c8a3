"""The scene of separate programs: `serve` with two replicas, `learn` and `rollout run`, each behind proxies of its own.

    serve, learn, rollout --one proxy each--> Redis, Apache Kafka <--directly-- the load

The broker has a listener for each program, which tells that program the address of its proxy. The load goes past them:
what is cut is the service, not the oracle.
"""

import os
import random
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from bench.chaos import family
from bench.chaos.faults import TOXICS, Cut, DamagedBlob, FaultKind, FlushAll, Kill, Toxic, WrongClock
from bench.chaos.programs import ChaosProgram, Programs, last_line
from bench.chaos.sandbox import Clock, clock
from bench.chaos.scene import chosen, kill_of, lasting, pause_of, small
from bench.chaos.servers import DIRECT, format_node, free_ports, kafka_argv, kafka_environment, redis_argv
from bench.chaos.size import SceneSize
from bench.chaos.toxiproxy import Proxy, Toxiproxy
from bench.service import apache_kafka
from services.local import tether
from services.local.subreaper import guarded
from services.settings import Settings, as_environment, replaced
from services.stack import open_store, waited_for
from wire.bus import Bus
from wire.errors import WireError

REPLICAS = 2
READY_S = 240.0
STOP_S = 30.0
LOOK_S = 0.1
KAFKA = "Kafka"
REDIS = "Redis"

COMMANDS = {"serve": ("serve",), "learn": ("learn",), "rollout": ("rollout", "run")}
ROLE_OF = {"learn": family.LEARNER, "rollout": family.CONTROLLER}

KILLED = (family.REPLICA, family.SERVE_CONTROLLER, family.LEARNER, family.CONTROLLER, family.REDIS, family.BROKER)
"""Not `serve` itself and not Ray: they take both replicas with them, and the scene `up` has that."""

PAUSED = (family.LEARNER, family.CONTROLLER, family.REDIS, family.BROKER)

CLOCKS = (family.REDIS, family.LEARNER, family.CONTROLLER)
JUMPS_S = (3_600, -3_600, 86_400, -86_400)


class Apart:
    """Owner of every program. Raises Skip where there is no Toxiproxy or no Apache Kafka."""

    name = "apart"

    def __init__(self, folder: Path, size: SceneSize, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._size = size
        self._home = apache_kafka()
        self._programs = Programs(say)
        self._toxiproxy = Toxiproxy(folder)
        self._ports = free_ports([DIRECT, *(name.upper() for name in COMMANDS)])
        self._redis_port = tether.free_port()
        self._proxies = {
            (program, server): self._toxiproxy.proxy(f"{program}-{server}".lower(), upstream)
            for program in COMMANDS
            for server, upstream in (
                (KAFKA, f"127.0.0.1:{self._ports[program.upper()]}"),
                (REDIS, f"127.0.0.1:{self._redis_port}"),
            )
        }
        self._clocks = {role: found for role in CLOCKS if (found := clock(folder, role.split()[0]))}
        self._settings = self._direct()

    @property
    def num_ended(self) -> int:
        return self._programs.num_ended

    def start(self) -> None:
        self._start_servers()
        self._await(self._has_topics, "the broker")
        self._start_programs()
        self._await(lambda: not self._waited_for(), "the service")

    def check(self) -> None:
        self._programs.check()

    def where(self) -> Settings:
        return self._settings

    def kinds(self) -> list[FaultKind]:
        size = self._size
        kinds = [kill_of(role, partial(self._pids, role)) for role in KILLED]
        kinds += [pause_of(role, partial(self._pids, role), size) for role in PAUSED]
        kinds += _network(self._ways(), size)
        kinds += [_wrong(role, each, size) for role, each in self._clocks.items()]
        replica = Kill(family.REPLICA, partial(self._pids, family.REPLICA))
        kinds += [FaultKind("damaged blob", lambda rng: DamagedBlob(self.where, replica, rng.random()))]
        kinds += [FaultKind("FLUSHALL", lambda _: FlushAll(self.where))]
        return chosen(kinds, size.only)

    def missing(self) -> list[str]:
        return [] if self._clocks else ["wrong clock: there is no C compiler (Debian: apt install gcc libc6-dev)"]

    def restart(self) -> None:
        self._programs.close(STOP_S)
        self._start_servers()
        self._start_programs()

    def close(self) -> None:
        self._programs.close(STOP_S)
        self._toxiproxy.close()

    def _ways(self) -> dict[str, list[Proxy]]:
        """The connections that fail together: those between one program and one server, and all of a server's."""
        ways = {f"{program} and {server}": [proxy] for (program, server), proxy in self._proxies.items()}
        for server in (KAFKA, REDIS):
            ways[f"all and {server}"] = [proxy for (_, each), proxy in self._proxies.items() if each == server]
        return ways

    def _start_servers(self) -> None:
        redis_folder = self._folder / "redis"
        kafka_folder = self._folder / "kafka"
        redis_folder.mkdir(exist_ok=True)
        redis = redis_argv(redis_folder, self._redis_port)
        self._programs.start(ChaosProgram("Redis", redis, self._clock_of(family.REDIS), self._log("redis")))
        if not kafka_folder.exists():
            advertised = {name.upper(): self._proxies[name, KAFKA].listen for name in COMMANDS}
            format_node(self._home, kafka_folder, self._ports, advertised)
        kafka = kafka_argv(self._home, kafka_folder)
        self._programs.start(ChaosProgram("broker", kafka, kafka_environment(kafka_folder), self._log("kafka")))

    def _start_programs(self) -> None:
        for name, words in COMMANDS.items():
            argv = [sys.executable, "-P", "-m", "services.cli", *words, "--config", os.devnull]
            env = as_environment(self._behind_proxies(name)) | self._clock_of(ROLE_OF.get(name, ""))
            self._programs.start(ChaosProgram(name, guarded(argv) if name == "serve" else argv, env, self._log(name)))

    def _direct(self) -> Settings:
        settings = small(
            state_dir=str(self._folder),
            serving__http_port=tether.free_port(),
            serving__replicas=REPLICAS,
            store__url=f"redis://127.0.0.1:{self._redis_port}/0",
            bus__bootstrap_servers=f"127.0.0.1:{self._ports[DIRECT]}",
        )
        return replaced(settings, {"signing_key": SecretStr(secrets.token_hex(16))})

    def _behind_proxies(self, program: str) -> Settings:
        changes = {
            "store.url": f"redis://{self._proxies[program, REDIS].listen}/0",
            "bus.bootstrap_servers": self._proxies[program, KAFKA].listen,
        }
        return replaced(self._settings, changes)

    def _has_topics(self) -> bool:
        try:
            with closing(Bus(self._settings.bus, "chaos-topics")) as bus:
                bus.create_topics()
        except WireError:
            return False
        return True

    def _waited_for(self) -> str:
        try:
            with closing(open_store(self._settings)) as store:
                return waited_for(store, replicas=REPLICAS, earlier=set())
        except WireError:
            return REDIS

    def _await(self, holds: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + READY_S
        while not holds():
            self.check()
            if time.monotonic() > deadline_s:
                logs = ", ".join(last_line(self._log(name)) for name in COMMANDS)
                raise RuntimeError(f"{what} is not ready after {READY_S:g} s: {logs}")
            time.sleep(LOOK_S)  # what is waited for is said nowhere but in the store

    def _pids(self, role: str) -> list[int]:
        """Of the programs that we start ourselves, or of their descendants; of the replicas, those that answer."""
        ours = family.Family(os.getpid())
        return ours.answering(self._settings.serving.http_port) if role == family.REPLICA else ours.pids(role)

    def _clock_of(self, role: str) -> dict[str, str]:
        return self._clocks[role].environment() if role in self._clocks else {}

    def _log(self, name: str) -> Path:
        return self._folder / "logs" / f"{name}.log"


def _network(ways: dict[str, list[Proxy]], size: SceneSize) -> list[FaultKind]:
    """A kind for each thing that can happen to a connection; which connection is drawn."""

    def cut(rng: random.Random) -> Cut:
        way = rng.choice(sorted(ways))
        return Cut(way, ways[way], lasting(rng, size))

    def toxic(what: str, rng: random.Random) -> Toxic:
        way = rng.choice(sorted(ways))
        (kind, attributes) = TOXICS[what]
        return Toxic(what, way, ways[way], kind, attributes, lasting(rng, size))

    return [FaultKind("cut", cut), *(FaultKind(what, partial(toxic, what)) for what in TOXICS)]


def _wrong(role: str, wrong: Clock, size: SceneSize) -> FaultKind:
    name = f"wrong clock {role}"
    return FaultKind(name, lambda rng: WrongClock(role, wrong, rng.choice(JUMPS_S), lasting(rng, size)))
