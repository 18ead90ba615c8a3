"""`lifelong up|demo|serve|learn|page`: the commands that run until they are done or told to stop.

`page` serves the page of a service whose processes were started one by one, or run elsewhere.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.context import CliContext, reads_settings, require_strategy, stop_signal
from services.commands.exits import TEMPORARY
from services.commands.output import echo
from services.demo.options import DemoOptions

if TYPE_CHECKING:
    from services.settings import Settings


ReplicasOption = Annotated[int | None, typer.Option("--replicas", min=1, help="Replicas that answer")]


@reads_settings
def up(context: CliContext, replicas: ReplicasOption = None) -> None:
    """Run everything on this machine. What no address is set for is started here and ends with this command."""
    from services.demo.fresh import remove_abandoned
    from services.local.stack import Stack
    from services.page.server import served

    settings = _of_all_tasks(context.process(serving__replicas=replicas))
    remove_abandoned(settings, say=echo)
    with Stack(settings, say=echo) as stack, served(stack.settings, say=echo):
        stop = stop_signal()
        serving = stack.settings.serving
        echo(f"Ready: POST http://{serving.http_host}:{serving.http_port}/v1/predict")
        echo(f"Logs: {stack.logs}", "Control-C ends it.")
        stack.wait(stop)


@reads_settings
def demo(
    context: CliContext,
    *,
    options: DemoOptions,
    replicas: ReplicasOption = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of everything that is drawn")] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Only remove what earlier demos have left, also on shared servers")
    ] = False,
) -> None:
    """Play a labelled data set as a stream, and watch the service answer it, learn from late labels and get better."""
    settings = context.process(serving__replicas=replicas, seed=seed, profile=options.profile)
    if clear:
        from services.demo.fresh import remove_abandoned

        raise typer.Exit(0 if remove_abandoned(settings, say=echo) else TEMPORARY)
    from services.demo.command import run

    raise typer.Exit(run(_of_all_tasks(settings), options))


@reads_settings
def serve(context: CliContext, replicas: ReplicasOption = None) -> None:
    """Run the replicas that answer events from Kafka and HTTP, on Ray Serve."""
    from model.encoders import open_inputs
    from services.keys import ring_of
    from services.programs import owner_of
    from services.topics import require_topics, require_transactions
    from serving.app import run
    from serving.replica_config import ReplicaConfig
    from wire.files import claim_folder

    settings = _of_all_tasks(context.attached(serving__replicas=replicas))
    claim_folder(Path(settings.serving.spool_dir), owner_of(settings), "serving.spool_dir")
    require_topics(settings, "serve")
    if settings.serving.exactly_once:
        require_transactions(settings.bus)
    # loaded here so that its errors are reported once, and not by every replica
    open_inputs(settings.encoder, max_tokens=settings.serving.max_tokens)
    run(ReplicaConfig.of(settings, ring=ring_of(settings), trust=settings.learner.trust), stop_signal())


@reads_settings
def learn(context: CliContext) -> None:
    """Run the learner: labels in, weights out. A second one stands by."""
    from services.keys import ring_of

    settings = context.attached()
    ring = ring_of(settings)
    ring.require_signer()
    from learner.process import EncoderChoice, TaskChoice, run
    from rollout.publication_rule import verdict
    from services.programs import owner_of
    from services.topics import require_topics
    from wire import metrics, traces
    from wire.files import claim_folder

    require_strategy(settings)
    claim_folder(Path(settings.learner.state_dir), owner_of(settings), "learner.state_dir")
    require_topics(settings, "learn")
    with metrics.served(settings.metrics), traces.exported(settings.traces, "learner"):
        code = run(
            settings.learner,
            bus_config=settings.bus,
            store_config=settings.store,
            ring=ring,
            encoder=EncoderChoice(settings.encoder, settings.serving.max_tokens),
            task=TaskChoice(settings.labels, settings.readers),
            stop=stop_signal(),
            rule=verdict,
        )
    raise typer.Exit(code)


def _of_all_tasks(settings: "Settings") -> "Settings":
    """Returns the settings. Raises BadSettings where they are those of one task besides the default one."""
    from services.settings import BadSettings

    if settings.task:
        raise BadSettings(f"task: is {settings.task!r}, and this command is about all tasks. Leave --task out")
    return settings


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
