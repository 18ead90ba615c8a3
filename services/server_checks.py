"""The checks of the servers: the broker and its topics, Redis, and the signing key."""

import subprocess
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from services.keys import ring_of, with_signing_key
from services.local.kafka import NoBroker, kafka_home, tansu_program
from services.local.redis import NoRedis, find_binary, version_of
from services.settings import BadSettings, Settings
from services.topic_uses import findings_of
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.errors import BadSignature, BusRefused, WireError
from wire.keyring import KeyRing
from wire.logs import without_password
from wire.store import Store


@dataclass(frozen=True, slots=True)
class Check:
    """The name of a check, its result, and the remedy (empty where none is needed)."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


def check_broker(settings: Settings) -> Check:
    if settings.bus.bootstrap_servers:
        try:
            with closing(Bus(settings.bus, client_id="doctor")) as bus:
                bus.ping()
        except WireError as error:
            return Check("broker", "fail", str(error), _fix_of(error))
        return Check("broker", "ok", settings.bus.bootstrap_servers)
    try:
        home = kafka_home()
    except NoBroker as error:
        return Check("broker", "fail", str(error), "Correct KAFKA_HOME and PATH, or unset KAFKA_HOME")
    if home is not None:
        return Check("broker", "ok", f"Apache Kafka in {home}, {_java()}")
    if tansu_program() is None:
        return Check("broker", "fail", "none", "pip install 'lifelong[local]', or set KAFKA_HOME to Apache Kafka")
    fix = "For records that outlive it: set KAFKA_HOME to an unpacked Apache Kafka, with Java 17 on PATH"
    return Check("broker", "warn", "Tansu, which keeps records in memory", fix)


def _fix_of(error: WireError) -> str:
    """Returns how a broker answers again. Where it refuses us, the error itself says what to mend."""
    return "" if isinstance(error, BusRefused) else "Start the broker, or correct LIFELONG_BUS__BOOTSTRAP_SERVERS"


def check_topics(config: BusConfig) -> Check:
    """Asks for everything that is wrong with our topics, or to note about them. For a broker that is away, programs
    wait; one that refuses us ends them."""
    try:
        findings = findings_of(config)
    except WireError as error:
        state: Literal["warn", "fail"] = "fail" if isinstance(error, BusRefused) else "warn"
        return Check("topics", state, str(error), _fix_of(error))
    if not findings:
        return Check("topics", "ok", "they are there, with rights, partitions and retention")
    found = "\n".join(f"{finding.topic}: {finding.found}" for finding in findings)
    is_wrong = any(finding.is_wrong for finding in findings)
    return Check(
        "topics", "fail" if is_wrong else "warn", found, "\n".join(dict.fromkeys(finding.fix for finding in findings))
    )


def check_redis(settings: Settings) -> Check:
    if not settings.store.url:
        try:
            binary = find_binary()
            return Check("redis", "ok", f"{version_of(binary)} in {binary}")
        except NoRedis as error:
            return Check("redis", "fail", str(error), "Debian: apt install redis-server")
    shown = without_password(settings.store.url)
    try:
        with closing(Store(settings.store, KeyRing(()))) as store:
            store.check_policy()
            why_not_durable = store.why_not_durable()
    except WireError as error:
        fix = f"Start Redis, correct LIFELONG_STORE__URL ({shown}), or set maxmemory-policy noeviction on the server"
        return Check("redis", "fail", str(error), fix)
    return Check("redis", "warn" if why_not_durable else "ok", shown, why_not_durable)


def check_key(settings: Settings) -> Check:
    if not settings.store.url and settings.signing_key is None:
        return Check("signing key", "ok", f"made once, in {settings.state_dir}")
    try:
        ring = ring_of(with_signing_key(settings, own_store=not settings.store.url))
    except BadSettings as error:
        return Check("signing key", "fail", "none", error.problems[0])
    shown = f"{ring.signer.id} signs" if ring.signer else "none that signs, as for replicas"
    found = f"{shown}; accepted: {', '.join(ring.accepted)}"
    if settings.store.url and (problem := _unreadable(settings.store, ring)):
        return Check("signing key", "fail", f"{found}\n{problem}", "Give this program the keys of the learner")
    return Check("signing key", "warn" if ring.why_unsafe else "ok", found, ring.why_unsafe)


def _unreadable(config: StoreConfig, ring: KeyRing) -> str:
    """Returns which of the plan and the current version our keys do not verify; empty where no store answers."""
    try:
        with closing(Store(config, ring)) as store:
            store.plans.read()
            if current := store.versions.current():
                store.versions.manifest(current)
    except BadSignature as error:
        return str(error)
    except WireError:  # the check of Redis says so
        return ""
    return ""


def _java() -> str:
    done = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    return (done.stderr or done.stdout).strip().splitlines()[0]
