"""`lifelong keys ...` and `lifelong secrets ...`: the API keys of clients, and the secrets of a service in containers.

`keys` creates, lists and revokes the API keys in `serving.keys_file`. `secrets` is part of the image, so Lifelong need
not be installed on the host: docker/compose.yaml runs it as a job.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo, json_lines
from wire.timestamps import now_ms

if TYPE_CHECKING:
    from serving.http.access import ApiKey


keys = typer.Typer(no_args_is_help=True, help="API keys, which HTTP and gRPC require if serving.keys_file is set.")

NameArgument = Annotated[str, typer.Argument(help="Name of the client, which is the source of its labels")]

secrets = typer.Typer(no_args_is_help=True, help="Keys and passwords of a service in containers.")


@keys.command()
@reads_settings
def create(
    context: CliContext,
    name: NameArgument,
    roles: Annotated[
        list[str] | None, typer.Option("--role", help="predict, feedback or admin; may be repeated [default: predict]")
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--event-source",
            help="Source that the client's events may name unchanged; may be repeated [default: http/NAME/...]",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create an API key, and show it once: the file stores only its digest."""
    from serving.http.access import Role, create_key

    wrong = sorted({*(roles or ())} - {*Role})
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is not a role; the roles are {', '.join(Role)}")
    chosen = [Role(role) for role in roles or (Role.PREDICT,)]
    key, text = create_key(_file(context), name, chosen, sources=sources or (), now_ms=now_ms())
    echo(*(json_lines({**_row(key), "key": text}) if as_json else [text]))


@keys.command("list")
@reads_settings
def list_(context: CliContext, as_json: JsonOption = False) -> None:
    """List the API keys by name, with their roles."""
    from serving.http.access import read_keys

    rows = [_row(key) for key in read_keys(_file(context))]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        echo(f"{row['name']}  {', '.join(row['roles'])}  since {row['created']}")


@keys.command()
@reads_settings
def revoke(context: CliContext, name: NameArgument, as_json: JsonOption = False) -> None:
    """Revoke an API key. Replicas refuse it within a second."""
    from serving.http.access import revoke_key

    row = _row(revoke_key(_file(context), name))
    echo(*(json_lines(row) if as_json else [f"{name} is revoked"]))


def _file(context: CliContext) -> Path:
    from services.settings import BadSettings

    file = context.process().serving.keys_file
    if not file:
        raise BadSettings("serving.keys_file: is empty, so no key is required. Name the file that has the keys")
    return Path(file)


def _row(key: "ApiKey") -> dict[str, Any]:
    from wire.timestamps import to_rfc3339

    created = to_rfc3339(key.created_ms)
    return {"name": key.name, "roles": [*key.roles], "sources": [*key.sources], "created": created}


@secrets.command()
@reads_settings
def write(
    context: CliContext,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder for service/, replicas/ and redis/")],
) -> None:
    """Write missing secrets below FOLDER, and renew the replicas' public keys. Existing secrets are kept."""
    from services import keys

    for path in keys.write_secrets(folder, context.load().settings.store.prefix):
        echo(str(path))


@secrets.command()
@reads_settings
def env(context: CliContext) -> None:
    """Print new secrets as lines for docker/kubernetes/secrets.env, and the Redis accounts as comments."""
    from services import keys

    values, accounts = keys.secrets_environment(context.load().settings.store.prefix)
    echo("# Add these two accounts to Redis, each by ACL SETUSER, or as lines of its aclfile:")
    for line in accounts.splitlines():
        echo(f"# {line}")
    for name, value in values.items():
        echo(f"{name}={value}")
