"""`lifelong signing-keys ...`: makes, lists, rotates and retires the keys that sign weights and plans."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo

if TYPE_CHECKING:
    from services.settings import Settings
    from wire.keyring import Key, KeyRing
    from wire.store import Store

HAND_OUT = "Give the file to every program, and restart programs that have the keys from a variable"

app = typer.Typer(no_args_is_help=True, help="The keys that sign weights and plans: docs/keys.md.")

FileOption = Annotated[
    Path | None,
    typer.Option("--file", help="Key file [default: signing_key_file, or the file in the state folder]"),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Do it even if a running program is not ready")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Id of the key, as `lifelong signing-keys list` shows")]


@app.command()
@reads_settings
def new(
    context: CliContext,
    file: FileOption = None,
    receipt: Annotated[bool, typer.Option("--receipt", help="Make a secret for receipts, not a signing key")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a key that is accepted but does not sign yet. If there is no file, make one with all necessary keys."""
    from services import keys
    from wire.keyring import Kind

    path = _first_key_file(file) or _file(context, file)[0]
    before = keys.read_keys(path)
    ring = keys.add_key(before, Kind.RECEIPT if receipt else Kind.NEXT)
    keys.write_keys(path, ring)
    rows = [_row(ring, key) for key in ring.keys if before is None or key not in before.keys]
    _show(rows, path, as_json=as_json)
    if before is not None and not as_json:
        echo(f"{HAND_OUT}; then `lifelong signing-keys rotate`")


@app.command("list")
@reads_settings
def list_(context: CliContext, file: FileOption = None, as_json: JsonOption = False) -> None:
    """Show the keys in their order, with the purpose of each, and the number of stored records that it signed."""
    path, ring, settings = _opened(context, file)
    with _stores(settings) as stores:
        signed = _signed(stores)
    rows = [{**_row(ring, key), "records": len(signed.get(key.id, ()))} for key in ring.keys]
    if "" in signed:
        rows.append({"key": "", "kind": "none of ours", "use": "refused", "records": len(signed[""])})
    _show(rows, path, as_json=as_json)


@app.command()
@reads_settings
def rotate(
    context: CliContext,
    key: Annotated[str, typer.Argument(metavar="[KEY]", help="Id of the key [default: the newest]")] = "",
    file: FileOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let another key sign, which every program accepts already, and sign the stored records again with it."""
    from services import keys
    from services.keys import KeysUnfit

    path, ring, settings = _opened(context, file)
    chosen = keys.find_key(ring, key) if key else keys.next_signer(ring)
    ring = keys.rotate_to(ring, chosen)
    chosen = ring.keys[0]
    with _stores(_with_keys(settings, ring)) as stores:
        if not force and (late := _programs_of_all_tasks(stores, chosen, keys.programs_without)):
            raise KeysUnfit(
                f"{', '.join(late)}: would refuse what {chosen.id} signs. Give the key file to it, and wait some "
                "seconds or restart it; or rotate anyway with --force"
            )
        keys.write_keys(path, ring)
        renewed = sum(store.signatures.renew() for store in stores) if ring.signer is not None else 0
    if as_json:
        print(json.dumps({**_row(ring, chosen), "records": renewed}, indent=2))
        return
    outcome = (
        f"{renewed} stored records are signed by it now" if stores else "no store answers: rotate again when one does"
    )
    echo(f"{chosen.id} is the first key of {path}; {outcome}. {HAND_OUT}")


@app.command()
@reads_settings
def retire(
    context: CliContext,
    key: KeyArgument,
    file: FileOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stop accepting a key. What it signed is refused as soon as every program has the file."""
    from services import keys
    from services.keys import KeysUnfit

    path, ring, settings = _opened(context, file)
    chosen = keys.find_key(ring, key)
    if keys.is_used(ring, chosen):
        raise KeysUnfit(f"{key}: is in use. Let another key take its place: `lifelong signing-keys rotate KEY`")
    if not force:
        with _stores(settings) as stores:
            _check_unused(stores, chosen)
    keys.write_keys(path, keys.retire_key(ring, chosen))
    if as_json:
        print(json.dumps(_row(ring, chosen), indent=2))
    else:
        echo(f"{key} is retired in {path}. {HAND_OUT}")


@app.command()
@reads_settings
def public(context: CliContext, file: FileOption = None) -> None:
    """Print the keys for replicas, which verify weights and plans and make receipts, but cannot sign."""
    _, ring, _ = _opened(context, file)
    echo(*ring.for_replicas().text.splitlines())


def _check_unused(stores: "Sequence[Store]", key: "Key") -> None:
    """Raises KeysUnfit if a program or a stored record needs the key, or if it is not known whether one does."""
    from services import keys
    from services.keys import KeysUnfit

    if not stores:
        raise KeysUnfit(f"{key.id}: no store answers, so it is not known what it signed. Try again, or use --force")
    if users := _programs_of_all_tasks(stores, key, keys.programs_signing_with):
        names = ", ".join(users)
        raise KeysUnfit(f"{names}: signs with {key.id}. Restart it with the key file, or use --force")
    if signed := _signed(stores).get(key.id, []):
        names = ", ".join(signed[:5])
        raise KeysUnfit(
            f"{key.id}: signed {len(signed)} stored records ({names}), which would be refused. `lifelong signing-keys "
            "rotate` signs them again; --force refuses them"
        )


def _first_key_file(file: Path | None) -> Path | None:
    """Returns the file for the first keys, or None if it exists. Without keys, no settings can be loaded yet."""
    path = file or Path(os.environ.get("LIFELONG_SIGNING_KEY_FILE", ""))
    return None if path.exists() else path


def _file(context: CliContext, file: Path | None) -> tuple[Path, "Settings"]:
    """Returns the key file and the settings. Raises KeysUnfit if the keys are given as a value."""
    from services.keys import FILE, KeysUnfit

    loaded = context.load()
    path = file or loaded.files.get("signing_key")
    if path is None and "signing_key" in loaded.origins:
        raise KeysUnfit(
            f"{loaded.origins['signing_key']}: holds the keys themselves. Put them into a file, and name it in "
            "LIFELONG_SIGNING_KEY_FILE or by --file"
        )
    return path or loaded.settings.state_dir / FILE, loaded.settings


def _opened(context: CliContext, file: Path | None) -> tuple[Path, "KeyRing", "Settings"]:
    """Returns the key file, its keys, and the settings with these keys. Raises KeysUnfit if there is no file."""
    from services import keys
    from services.keys import KeysUnfit

    path, settings = _file(context, file)
    ring = keys.read_keys(path)
    if ring is None:
        raise KeysUnfit(f"{path}: does not exist. `lifelong signing-keys new` makes it; or name another with --file")
    return path, ring, _with_keys(settings, ring)


def _with_keys(settings: "Settings", ring: "KeyRing") -> "Settings":
    from pydantic import SecretStr

    from services.settings import replaced

    return replaced(settings, {"signing_key": SecretStr(ring.text)})


def _programs_of_all_tasks(
    stores: "Sequence[Store]", key: "Key", names: "Callable[[Store, Key], Iterable[str]]"
) -> list[str]:
    """Returns the programs that `names` gives for the stores of all tasks, without duplicates."""
    programs: dict[str, None] = {}
    for store in stores:
        programs |= dict.fromkeys(names(store, key))
    return list(programs)


def _signed(stores: "Sequence[Store]") -> dict[str, list[str]]:
    """Returns the names of all tasks' stored records, by the key that signed them."""
    signed: dict[str, list[str]] = {}
    for store in stores:
        for key, names in store.signatures.signers().items():
            signed.setdefault(key, []).extend(names)
    return signed


@contextmanager
def _stores(settings: "Settings") -> "Iterator[list[Store]]":
    """Opens all tasks' stores, as the settings name them or of the stack that runs here; yields [] if none answers."""
    from services.programs import open_stores
    from services.running import NotRunning, attach
    from wire.errors import StoreUnavailable

    with ExitStack() as opened:
        stores: list[Store] = []
        with suppress(NotRunning, StoreUnavailable):
            answering = list(open_stores(settings if settings.store.url else attach(settings), opened).values())
            answering[0].versions.current()
            stores = answering
        yield stores


def _row(ring: "KeyRing", key: "Key") -> dict[str, Any]:
    from services.keys import is_used
    from wire.keyring import Kind

    use = "used" if is_used(ring, key) else "accepted"
    return {"key": key.id, "kind": str(key.kind), "use": "refused" if key.kind is Kind.RETIRED else use}


def _show(rows: list[dict[str, Any]], path: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"file": str(path), "keys": rows}, indent=2))
        return
    echo(str(path))
    for row in rows:
        records = f"  {row['records']} stored records" if row.get("records") else ""
        echo(f"{row['key']:<16}  {row['kind']:<15}  {row['use']:<8}{records}")
