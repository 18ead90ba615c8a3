"""The scene of separate programs: `serve` with two replicas, `learn` and `rollout run`, each behind its own proxies.

    serve, learn, rollout --one proxy each--> Redis, Apache Kafka <--directly-- the load

The settings also have a task for which no program publishes weights. Events of the other task must not wait for it.

The broker has a listener for each program, which advertises the address of the program's proxy. The load bypasses the
proxies, because faults must hit the service, not the judge.
"""

import os
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from bench.chaos import programs
from bench.chaos.faults import FaultKind, network_kinds
from bench.chaos.maintenance import Maintainer, with_signing_key_file
from bench.chaos.power import ALL, PARTS
from bench.chaos.programs import (
    DIRECT,
    DURABLE,
    ChaosProgram,
    Programs,
    descendants,
    format_node,
    free_ports,
    kafka_argv,
    kafka_environment,
    redis_argv,
)
from bench.chaos.sandbox import NO_COMPILER, clock
from bench.chaos.scene import (
    STOP_S,
    Machine,
    Missing,
    kill_kind,
    pause_kind,
    power_cut_kind,
    scene_settings,
    select_kinds,
    store_kinds,
    wrong_clock_kind,
)
from bench.chaos.size import SceneSize
from bench.chaos.toxiproxy import Proxy, Toxiproxy
from bench.harness.process import lifelong_command
from services.local import children
from services.local.children import guarded
from services.local.redis import mend
from services.programs import open_store, unready_programs
from services.settings import Settings, as_environment, replaced
from services.versions import ROOT
from wire.bus import Bus
from wire.errors import WireError
from wire.tasks import DEFAULT

REPLICAS = 2
KAFKA = "Kafka"
REDIS = "Redis"

COMMANDS = {"serve": ("serve",), "learn": ("learn",), "rollout": ("rollout", "run")}
ROLES_BY_COMMAND = {"learn": programs.LEARNER, "rollout": programs.CONTROLLER}

KILLED = (
    programs.REPLICA,
    programs.SERVE_CONTROLLER,
    programs.LEARNER,
    programs.CONTROLLER,
    programs.REDIS,
    programs.BROKER,
)
"""The roles that are killed. `serve` and Ray are not among them, because both replicas end with them. The scene `up`
tests this case."""

PAUSED = (programs.LEARNER, programs.CONTROLLER, programs.REDIS, programs.BROKER)

CLOCKS = (programs.REDIS, programs.LEARNER, programs.CONTROLLER)


class Apart(Machine):
    """Owns all programs and servers. Raises Skip if there is no Toxiproxy or no Apache Kafka."""

    name = "apart"

    def __init__(self, folder: Path, size: SceneSize, say: Callable[[str], None]) -> None:
        super().__init__(folder, size, say)
        self._programs = Programs(say)
        self._toxiproxy = Toxiproxy(folder)
        self._ports = free_ports([DIRECT, *(name.upper() for name in COMMANDS)])
        self._redis_port = children.free_port()
        self._proxies: dict[tuple[str, str], Proxy] = {}
        for program in COMMANDS:
            self._add_proxy(program, KAFKA, self._ports[program.upper()])
            self._add_proxy(program, REDIS, self._redis_port)
        clocks = {role: clock(folder, role.split()[0]) for role in CLOCKS}
        self._clocks = {role: wrong for role, wrong in clocks.items() if wrong}
        self._settings = self._direct()
        self._maintainer = Maintainer(
            self._power.safe_folder, self.settings, self._power.environment(), self._stop_programs, self._start_programs
        )

    @property
    def num_unexpected_ends(self) -> int:
        return self._programs.num_unexpected_ends

    def start(self) -> None:
        logs = [self._log(name) for name in COMMANDS]
        self._start_servers()
        self.await_ready(self._has_topics, "the broker", logs)
        self._start_programs()
        self.await_ready(lambda: not self._unready_program(), "the service", logs)

    def check(self) -> None:
        self._programs.check()
        super().check()

    def is_whole(self) -> bool:
        return len(self._pids(programs.REPLICA)) >= REPLICAS

    def settings(self) -> Settings:
        return self._settings

    def kinds(self) -> list[FaultKind]:
        size = self._size
        kinds = [kill_kind(role, partial(self._pids, role)) for role in KILLED]
        kinds += [pause_kind(role, partial(self._pids, role), size) for role in PAUSED]
        kinds += network_kinds(self._connections(), size)
        kinds += [wrong_clock_kind(role, wrong, size) for role, wrong in self._clocks.items()]
        kinds += store_kinds(self.settings, partial(self._pids, programs.REPLICA))
        kinds += [*self._maintainer.kinds(size), self.api_keys.kind(self._settings, size)]
        for role in (*PARTS, ALL) if self._power.can_lose_power else ():
            back = programs.REPLICA if role == ALL else role
            kinds += [power_cut_kind(role, partial(self._cut, role), partial(self._pids, back))]
        return select_kinds(kinds, size.only)

    def missing(self) -> dict[Missing, str]:
        if self._clocks:
            return {}
        return {"compiler": f"wrong clock and power cuts: {NO_COMPILER}"}

    def restart(self) -> None:
        self._programs.close(STOP_S)
        self._start_servers()
        self._start_programs()

    def close(self) -> None:
        self._programs.close(STOP_S)
        self._toxiproxy.close()
        self._power.close()

    def _cut(self, role: str) -> str:
        """Cuts the power of one role or of all programs. `Programs` restarts them, like a service manager at boot."""
        if role != ALL:
            return self._power.cut(role, self._pids(role))
        pids: list[int] = []
        for program in self._programs.pids:
            pids += descendants(program)
        return self._power.cut(role, pids)

    def _add_proxy(self, program: str, server: str, port: int) -> None:
        name = f"{program}-{server}".lower()
        self._proxies[program, server] = self._toxiproxy.proxy(name, f"127.0.0.1:{port}")

    def _connections(self) -> dict[str, list[Proxy]]:
        """Returns the connections that fail together, by name, if the name contains the option `connection`.

        These are the connection of one program to one server, and all connections of a server.
        """
        connections = {f"{program} and {server}": [proxy] for (program, server), proxy in self._proxies.items()}
        for server in (KAFKA, REDIS):
            connections[f"all and {server}"] = [proxy for (_, each), proxy in self._proxies.items() if each == server]
        return {name: proxies for name, proxies in connections.items() if self._size.connection in name}

    def _start_servers(self) -> None:
        redis_folder = self._folder / "redis"
        kafka_folder = self._folder / "kafka"
        redis_folder.mkdir(exist_ok=True)
        is_durable = self._size.arm == "durable"
        redis = redis_argv(redis_folder, self._redis_port, appendfsync="always" if is_durable else "everysec")
        env = self._environment(programs.REDIS)
        # Redis does not start if the last pages of its file are zeros, so the file is repaired first.
        self._programs.start(ChaosProgram("Redis", redis, env, self._log("redis"), prepare=partial(mend, redis_folder)))
        if not kafka_folder.exists():
            advertised = {name.upper(): self._proxies[name, KAFKA].listen for name in COMMANDS}
            properties = DURABLE if is_durable else ""
            format_node(self.home, kafka_folder, self._ports, advertised, properties=properties)
        kafka = kafka_argv(self.home, kafka_folder)
        env = kafka_environment(kafka_folder) | self._environment(programs.BROKER)
        self._programs.start(ChaosProgram("broker", kafka, env, self._log("kafka")))

    def _stop_programs(self) -> None:
        for name in COMMANDS:
            self._programs.stop(name, STOP_S)

    def _start_programs(self, tree: Path = ROOT) -> None:
        for name, words in COMMANDS.items():
            argv = lifelong_command(*words)
            env = as_environment(self._behind_proxies(name)) | self._environment(ROLES_BY_COMMAND.get(name, ""))
            env |= {"PYTHONPATH": str(tree)}
            self._programs.start(ChaosProgram(name, guarded(argv) if name == "serve" else argv, env, self._log(name)))

    def _direct(self) -> Settings:
        settings = scene_settings(
            state_dir=str(self._folder),
            serving__http_port=children.free_port(),
            serving__replicas=REPLICAS,
            serving__spool_sync=self._size.arm == "durable",
            tasks__broken={},
            serving__keys_file=str(self.api_keys.file),
            store__url=f"redis://127.0.0.1:{self._redis_port}/0",
            bus__bootstrap_servers=f"127.0.0.1:{self._ports[DIRECT]}",
        )
        return with_signing_key_file(self._folder / "logs" / "signing.key", settings)

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

    def _unready_program(self) -> str:
        try:
            with closing(open_store(self._settings)) as store:
                return next(unready_programs({DEFAULT: store}, replicas=REPLICAS, earlier=set()), "")
        except WireError:
            return REDIS

    def _pids(self, role: str) -> list[int]:
        """Returns the processes of a role among our descendants. A replica counts only if it answers."""
        tree = programs.ProcessTree(os.getpid())
        if role == programs.REPLICA:
            return tree.answering(self._settings.serving.http_port)
        return tree.pids(role)

    def _environment(self, role: str) -> dict[str, str]:
        """Returns the environment variables for a role's wrong clock, if it has one, and for its machine."""
        clock_env = self._clocks[role].environment() if role in self._clocks else {}
        machine_env = self._power.environment()
        preloaded = ":".join(env["LD_PRELOAD"] for env in (clock_env, machine_env) if env)
        merged = clock_env | machine_env
        if preloaded:
            merged["LD_PRELOAD"] = preloaded
        return merged

    def _log(self, name: str) -> Path:
        return self._folder / "logs" / f"{name}.log"
