"""TLS of the gRPC port, by grpc's own client: who trusts the certificate is answered, and files that change count."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.config import ServingConfig
from serving.errors import BadCertificate
from serving.grpc.certificates import CHECK_S, Certificates, TlsFiles, open_certificates, read
from serving.grpc.listener import GrpcListener
from serving.http.listener import DEFAULTS
from tests.secure_brokers import make_authority, make_certificate
from tests.serving.http.served_api import ServedApi

SECONDS = 10.0


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with an authority, and a server's and a client's certificate by it."""
    return made(tmp_path_factory.mktemp("trusted"))


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the same of somebody else."""
    return made(tmp_path_factory.mktemp("strange"))


def made(folder: Path) -> Path:
    make_authority(folder)
    for name in ("server", "client"):
        make_certificate(folder, name)
    return folder


@contextmanager
def listening(served: ServedApi, certificates: Certificates | None) -> Iterator[int]:
    listener = GrpcListener(
        served.api, host="127.0.0.1", port=0, drain_timeout_s=1, bounds=DEFAULTS, certificates=certificates
    )
    try:
        yield listener.port
    finally:
        listener.close()


def trust(folder: Path, *, client: bool = False) -> grpc.ChannelCredentials:
    """Returns the credentials of a client that trusts the authority of `folder`, and has its certificate."""
    own = (folder / "client.pem").read_bytes() if client else None
    return grpc.ssl_channel_credentials((folder / "authority.pem").read_bytes(), own, own)


def is_answered(port: int, credentials: grpc.ChannelCredentials | None) -> bool:
    """Whether a client gets an answer; without credentials it speaks no TLS. Each call has a connection of its own."""
    target = f"127.0.0.1:{port}"
    options = [("grpc.use_local_subchannel_pool", 1)]
    opened = (
        grpc.secure_channel(target, credentials, options) if credentials else grpc.insecure_channel(target, options)
    )
    with opened as channel:
        try:
            response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE
            return False
    return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


def test_who_trusts_the_certificate_is_answered_and_nobody_else(
    served: ServedApi, trusted: Path, strange: Path
) -> None:
    with listening(served, Certificates(TlsFiles(certfile=trusted / "server.pem"))) as port:
        assert is_answered(port, trust(trusted))
        assert not is_answered(port, trust(strange))
        assert not is_answered(port, None)


def test_clients_need_a_certificate_where_authorities_are_set(served: ServedApi, trusted: Path, strange: Path) -> None:
    files = TlsFiles(certfile=trusted / "server.pem", keyfile=trusted / "server.key", cafile=trusted / "authority.pem")
    with listening(served, Certificates(files)) as port:
        assert is_answered(port, trust(trusted, client=True))
        assert not is_answered(port, trust(trusted))
        stranger = (strange / "client.pem").read_bytes()
        authority = (trusted / "authority.pem").read_bytes()
        assert not is_answered(port, grpc.ssl_channel_credentials(authority, stranger, stranger))


def test_files_that_change_count_for_new_connections(
    served: ServedApi, trusted: Path, strange: Path, tmp_path: Path
) -> None:
    path = tmp_path / "server.pem"
    shutil.copy(trusted / "server.pem", path)
    now_s = [100.0]
    with listening(served, Certificates(TlsFiles(certfile=path), clock=lambda: now_s[0])) as port:
        assert is_answered(port, trust(trusted))
        shutil.copy(strange / "server.pem", path)
        assert is_answered(port, trust(trusted)), "it was looked at a moment ago"
        now_s[0] += CHECK_S
        assert is_answered(port, trust(strange))
        assert not is_answered(port, trust(trusted))
        path.write_bytes((trusted / "server.key").read_bytes() + (strange / "authority.pem").read_bytes())
        now_s[0] += CHECK_S
        assert is_answered(port, trust(strange)), "key and certificate do not belong together, so nothing changes"
        path.unlink()
        now_s[0] += CHECK_S
        assert is_answered(port, trust(strange))
        shutil.copy(trusted / "server.pem", path)
        now_s[0] += CHECK_S
        assert is_answered(port, trust(trusted))


def write(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("name", "spoil", "why"),
    [
        ("server.pem", Path.unlink, "has no certificate"),
        ("server.pem", write("no PEM"), "has no certificate"),
        ("server.key", Path.unlink, "has no private key"),
        ("server.key", write("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "has no private key"),
        ("authority.pem", write(""), "has no certificate"),
    ],
)
def test_what_cannot_be_used_is_said_with_its_file(
    trusted: Path, tmp_path: Path, name: str, spoil: Callable[[Path], object], why: str
) -> None:
    folder = shutil.copytree(trusted, tmp_path / "copy")
    spoil(folder / name)
    files = TlsFiles(certfile=folder / "server.pem", keyfile=folder / "server.key", cafile=folder / "authority.pem")
    with pytest.raises(BadCertificate, match=rf"{name}: {why}"):
        Certificates(files)


def test_a_key_of_another_certificate_and_an_encrypted_one_are_refused(trusted: Path, tmp_path: Path) -> None:
    files = TlsFiles(certfile=trusted / "server.pem", keyfile=trusted / "client.key")
    with pytest.raises(BadCertificate, match=r"client\.key: the key does not belong to .*server\.pem"):
        read(files)
    make_authority(tmp_path)
    certificate = make_certificate(tmp_path, "secret", password="open-sesame")
    with pytest.raises(BadCertificate, match=r"secret\.key: the private key is encrypted"):
        read(replace(files, certfile=certificate, keyfile=tmp_path / "secret.key"))


def test_settings_that_belong_together_are_set_together(trusted: Path) -> None:
    assert open_certificates(ServingConfig()) is None
    config = ServingConfig(grpc_port=8_001, grpc_ssl_certfile=trusted / "server.pem")
    assert open_certificates(config) is not None
    with pytest.raises(ValueError, match=r"need serving\.grpc_ssl_certfile"):
        ServingConfig(grpc_port=8_001, grpc_ssl_cafile=trusted / "authority.pem")
    with pytest.raises(ValueError, match=r"needs serving\.grpc_port, which is not set"):
        ServingConfig(grpc_ssl_certfile=trusted / "server.pem")
