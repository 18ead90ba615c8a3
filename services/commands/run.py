"""`lifelong up|demo|serve|learn|page`: the commands that run until they are done or stopped.

`page` serves the page of a service whose processes were started one by one, or run on other machines.
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


ReplicasOption = Annotated[int | None, typer.Option("--replicas", min=1, help="Number of replicas that answer")]


@reads_settings
def up(
    context: CliContext,
    replicas: ReplicasOption = None,
    *,
    pretrain: Annotated[
        bool, typer.Option("--pretrain", help="Pretrain the encoder on the events when their texts have moved")
    ] = False,
) -> None:
    """Run the whole service on this machine. It starts its own Kafka and Redis unless their addresses are set."""
    from services.demo.fresh import remove_abandoned
    from services.local.stack import Stack
    from services.page.server import served

    settings = _require_no_task(context.process(serving__replicas=replicas))
    remove_abandoned(settings, say=echo)
    with Stack(settings, say=echo, pretrains=pretrain) as stack, served(stack.settings, say=echo):
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
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of all random draws")] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Only remove what earlier demos left, also on shared servers")
    ] = False,
) -> None:
    """Play a labelled data set as a stream, and watch the service answer, learn from late labels, and improve."""
    settings = context.process(serving__replicas=replicas, seed=seed, profile=options.profile)
    if clear:
        from services.demo.fresh import remove_abandoned

        raise typer.Exit(0 if remove_abandoned(settings, say=echo) else TEMPORARY)
    from services.demo.command import run

    raise typer.Exit(run(_require_no_task(settings), options))


@reads_settings
def serve(context: CliContext, replicas: ReplicasOption = None) -> None:
    """Run the replicas, which answer events from Kafka and HTTP on Ray Serve."""
    from model.encoders import open_inputs
    from services.keys import key_ring
    from services.programs import folder_owner
    from services.topics import require_topics, require_transactions
    from serving.app import run
    from serving.replica_config import ReplicaConfig
    from wire.files import claim_folder

    settings = _require_no_task(context.attached(serving__replicas=replicas))
    claim_folder(Path(settings.serving.spool_dir), folder_owner(settings), "serving.spool_dir")
    require_topics(settings, "serve")
    if settings.serving.exactly_once:
        require_transactions(settings.bus)
    # Loaded here, so that an error is reported once, and not by every replica.
    open_inputs(settings.encoder, max_tokens=settings.serving.max_tokens)
    run(ReplicaConfig.of(settings, ring=key_ring(settings), trust=settings.learner.trust), stop_signal())


@reads_settings
def learn(context: CliContext) -> None:
    """Run the learner, which turns labels into new weights. A second learner stands by."""
    from services.keys import key_ring

    settings = context.attached()
    ring = key_ring(settings)
    ring.require_signer()
    from services.programs import folder_owner
    from services.topics import require_topics
    from wire import metrics, traces
    from wire.files import claim_folder

    require_strategy(settings)
    claim_folder(Path(settings.learner.state_dir), folder_owner(settings), "learner.state_dir")
    require_topics(settings, "learn")
    # These import torch, for two seconds: wrong settings are refused before.
    from learner.process import EncoderChoice, TaskChoice, run
    from rollout.publication_rule import verdict

    with metrics.serve(settings.metrics), traces.export(settings.traces, "learner"):
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


def _require_no_task(settings: "Settings") -> "Settings":
    """Returns the settings. Raises BadSettings if they name one task: the command is about all of them."""
    from services.settings import BadSettings

    if settings.task:
        raise BadSettings(f"task: is {settings.task!r}, but this command is about all tasks. Leave --task out")
    return settings


@reads_settings
def page(context: CliContext) -> None:
    """Serve the page of a service that runs without `lifelong up`, for example on a cluster."""
    from services.page.server import served

    stop = stop_signal()
    settings = context.attached()
    if not settings.page.port:
        raise typer.BadParameter("page.port is 0, so there is no page. Give a port: --set page.port=8090")
    with served(settings, say=echo):
        echo("Control-C ends it.")
        stop.wait()
