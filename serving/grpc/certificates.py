"""The certificate of the gRPC port, which a replica reads again when its files change.

    certificate, key, authorities of clients --read--> checked --each connection asks--> grpc

A certificate that was renewed counts from the next connection on, within CHECK_S. Files that cannot be read any more,
or of which certificate and key do not belong together, as while they are replaced one after the other, change nothing:
connections go on with what was read last.
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
"""Shortest time between two looks at the files."""

log = structlog.get_logger("grpc")


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsFiles:
    """Where certificate, key and the authorities of clients are. Without `keyfile` the key is in `certfile`; without
    `cafile` no certificate is asked of clients."""

    certfile: Path
    keyfile: Path | None = None
    cafile: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.certfile, self.keyfile, self.cafile) if path)


class Certificates:
    """The files as one listener sees them. Raises BadCertificate where they cannot be used at the start."""

    def __init__(self, files: TlsFiles, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._watch = FileWatch(*files.paths, check_s=CHECK_S, clock=clock)
        self._found = read(files)

    def credentials(self) -> grpc.ServerCredentials:
        """Returns what the server shows its clients; keep this object as long as the server."""
        return grpc.dynamic_ssl_server_credentials(
            self._found, self.newer, require_client_authentication=self._files.cafile is not None
        )

    def newer(self) -> Any:
        """Is called by grpc's threads for each connection. Returns the configuration where it has changed, or None."""
        with self._lock:
            try:
                found = self._watch.read_again(partial(read, self._files))
            except BadCertificate as error:
                log.error("certificate_not_read", error=str(error))
                return None
            if found is not None:
                self._found = found
                log.info("certificate_read", path=str(self._files.certfile))
            return found


def certificates_of(config: ServingConfig) -> Certificates | None:
    """Returns the certificate of the settings; None where none is set. Raises BadCertificate."""
    if config.grpc_ssl_certfile is None:
        return None
    return Certificates(
        TlsFiles(certfile=config.grpc_ssl_certfile, keyfile=config.grpc_ssl_keyfile, cafile=config.grpc_ssl_cafile)
    )


def read(files: TlsFiles) -> Any:
    """Returns the certificate with its key, for grpc. Raises BadCertificate, which names the file and the fix."""
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
