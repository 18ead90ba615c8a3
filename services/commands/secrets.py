"""`lifelong secrets ...`: makes the keys and passwords of a service that runs in containers.

The image has the command, so that nobody installs Lifelong on the host for it: docker/compose.yaml runs it as a job.
"""

from pathlib import Path
from typing import Annotated

import typer

from services.commands.context import CliContext, reads_settings
from services.commands.output import echo

app = typer.Typer(no_args_is_help=True, help="Keys and passwords of a service in containers.")


@app.command()
@reads_settings
def write(
    context: CliContext,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Gets service/, replicas/ and redis/")],
) -> None:
    """Write the secrets that are missing below a folder, and renew the replicas' public keys; keeps the others."""
    from services import container_secrets

    for path in container_secrets.write(folder, context.load().settings.store.prefix):
        echo(str(path))


@app.command()
@reads_settings
def env(context: CliContext) -> None:
    """Print new secrets as lines of docker/kubernetes/secrets.env, and the accounts to give to Redis as comments."""
    from services import container_secrets

    values, accounts = container_secrets.environment(context.load().settings.store.prefix)
    echo("# Give these two accounts to Redis, one ACL SETUSER each, or as lines of its aclfile:")
    for line in accounts.splitlines():
        echo(f"# {line}")
    for name, value in values.items():
        echo(f"{name}={value}")
