"""Installs a distribution with one package, as pip does, into a folder."""

from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path


def install(folder: Path, distribution: str, package: str) -> None:
    """Writes the package, over another one of its name, and the records of the distribution."""
    content = f'"""The package of {distribution}."""\n'.encode()
    digest = urlsafe_b64encode(sha256(content).digest()).decode().rstrip("=")
    (folder / package).mkdir(exist_ok=True)
    (folder / package / "__init__.py").write_bytes(content)
    info = folder / f"{distribution.replace('-', '_')}-0.11.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.11.0\n")
    (info / "RECORD").write_text(f"{package}/__init__.py,sha256={digest},{len(content)}\n{info.name}/METADATA,,\n")
