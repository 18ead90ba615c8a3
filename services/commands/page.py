"""`lifelong page`: the page of a service whose processes were started one by one, or run elsewhere."""

import typer

from services.commands.context import CliContext, reads_settings
from services.commands.output import echo
from services.commands.run import stop_signal


@reads_settings
def page(context: CliContext) -> None:
    """Serve the page of a service that runs without `lifelong up`, such as on a cluster."""
    from services.page.server import served

    stop = stop_signal()
    settings = context.attached()
    if not settings.page.port:
        raise typer.BadParameter("page.port is 0, which is no page. Give a port: --set page.port=8090")
    with served(settings, say=echo):
        echo("Control-C ends it.")
        stop.wait()
