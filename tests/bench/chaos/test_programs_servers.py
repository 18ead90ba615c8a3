"""The command and the files of the servers that proxies need."""

from pathlib import Path

from bench.chaos.programs import free_ports, kafka_argv, redis_argv
from services.local.redis import NoRedis
from tests.required import missing


def test_a_port_is_given_to_each_name() -> None:
    ports = free_ports(["a", "b", "c"])
    assert list(ports) == ["a", "b", "c"]
    assert len(set(ports.values())) == 3


def test_redis_gets_its_port_and_its_folder(tmp_path: Path) -> None:
    try:
        argv = redis_argv(tmp_path, 7_001, appendfsync="everysec")
    except NoRedis as why:
        missing("redis", str(why))
    options = dict(zip(argv[1::2], argv[2::2], strict=True))
    assert (options["--port"], options["--dir"]) == ("7001", str(tmp_path))
    assert options["--maxmemory-policy"] == "noeviction"


def test_kafka_reads_the_properties_of_its_folder(tmp_path: Path) -> None:
    start, properties = kafka_argv(Path("/opt/kafka"), tmp_path)
    assert start == "/opt/kafka/bin/kafka-server-start.sh"
    assert properties == str(tmp_path / "server.properties")
