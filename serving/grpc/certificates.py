"""The TLS certificate of the gRPC port. A replica reads it again when its files change.

    files: certificate, key, authorities of clients --read, check--> configuration --newer, for each connection--> grpc

A renewed certificate is used for new connections within CHECK_S. While the files are replaced one after another, the
key may not belong to the certificate. In this case, and if a file cannot be read, new connections use the last valid
configuration.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from serving.config import ServingConfig
from serving.errors import BadCertificate
from wire.files import FileWatch

CHECK_S: Final = 1.0
"""Shortest time in seconds between two checks of the files."""

log = structlog.get_logger("grpc")


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsFiles:
    """The files of the certificate, its key, and the clients' authorities.

    Without `keyfile`, the key is in `certfile`. Without `cafile`, clients need no certificate.
    """

    certfile: Path
    keyfile: Path | None = None
    cafile: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.certfile, self.keyfile, self.cafile) if path)


class Certificates:
    """The current certificate of one listener. The constructor raises BadCertificate if the files cannot be used."""

    def __init__(self, files: TlsFiles, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._watch = FileWatch(*files.paths, check_s=CHECK_S, clock=clock)
        self._configuration = read(files)

    def credentials(self) -> grpc.ServerCredentials:
        """Returns the server's credentials. This object must live as long as the server."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration, self.newer, require_client_authentication=self._files.cafile is not None
        )

    def newer(self) -> Any:
        """Returns the configuration if it has changed, else None. gRPC's threads call it for each connection."""
        with self._lock:
            try:
                configuration = self._watch.read_again(partial(read, self._files))
            except BadCertificate as error:
                log.error("certificate_not_read", error=str(error))
                return None
            if configuration is not None:
                self._configuration = configuration
                log.info("certificate_read", path=str(self._files.certfile))
            return configuration


def open_certificates(config: ServingConfig) -> Certificates | None:
    """Returns the certificate that the settings name; None if they name none. Raises BadCertificate."""
    if config.grpc_ssl_certfile is None:
        return None
    return Certificates(
        TlsFiles(certfile=config.grpc_ssl_certfile, keyfile=config.grpc_ssl_keyfile, cafile=config.grpc_ssl_cafile)
    )


def read(files: TlsFiles) -> Any:
    """Returns the certificate with its key as grpc's configuration. Raises BadCertificate, which names the file."""
    chain = _certificates(files.certfile)
    path = files.keyfile or files.certfile
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except TypeError:
        raise BadCertificate(f"{path}: the private key is encrypted; give one without a password") from None
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise BadCertificate(f"{path}: has no private key in PEM ({error})") from None
    if key.public_key() != chain[0].public_key():
        raise BadCertificate(f"{path}: the key does not belong to the first certificate in {files.certfile}")
    authorities = _certificates(files.cafile) if files.cafile else []
    return grpc.ssl_server_certificate_configuration(
        [(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), _pem(chain))],
        _pem(authorities) if authorities else None,
    )


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadCertificate(f"{path}: has no certificate in PEM ({error})") from None


def _pem(certificates: list[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
