"""`lifelong forget`: erases everything that was learnt from a subject's texts."""

import json
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.context import CliContext, JsonOption, reads_settings
from services.commands.output import echo

if TYPE_CHECKING:
    from wire.records import Erasure, WeightManifest
    from wire.store import Store

WAIT_S = 1.0


class NotErasedYet(RuntimeError):
    """The learner has not published a version without the subject in time; the request stays stored."""


@reads_settings
def forget(
    context: CliContext,
    *,
    subject: Annotated[str, typer.Option("--subject", metavar="KEY", help="The `key` of the events about it")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for weights without it")] = True,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="For how long")] = 120.0,
    as_json: JsonOption = False,
) -> None:
    """Erase what was learnt from the texts of a subject, by all tasks, publish weights without it, and never learn from
    it again."""
    from services.keys import ring_of
    from services.programs import open_stores
    from wire.keyring import subject_digest
    from wire.tasks import DEFAULT

    if not subject:
        raise typer.BadParameter("give the key of the events; an event without a key is about nobody")
    settings = context.attached()
    digest = subject_digest(ring_of(settings).subject, subject)
    with ExitStack() as opened:
        stores = open_stores(settings, opened)
        for store in stores.values():
            store.erasures.request(digest)
        if not wait:
            echo(json.dumps({"digest": digest}) if as_json else f"Asked for, as {digest}. The learner will see to it.")
            return
        done: dict[str, tuple[Erasure, WeightManifest]] = {}
        for task, store in stores.items():
            erasure = _published(store, digest, timeout_s=timeout)
            done[task] = erasure, store.versions.manifest(store.versions.current())
    if as_json:
        told = {task: _told(*each) for task, each in done.items()}
        print(json.dumps({**told.pop(DEFAULT), "tasks": told} if len(told) > 1 else told[DEFAULT], indent=2))
        return
    for task, each in done.items():
        lines = _summary(*each)
        echo(f"Task {task}. {lines[0]}" if task else lines[0], *lines[1:])


def _published(store: "Store", digest: str, *, timeout_s: float) -> "Erasure":
    """Waits until a version without the subject is published; returns the erasure."""
    deadline_s = time.monotonic() + timeout_s
    with closing(store.watch()) as watch:
        while (erasure := store.erasures.of(digest)) is None or not erasure.version:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise NotErasedYet(_why(erasure, is_learning=store.reports.learner() is not None, timeout_s=timeout_s))
            watch.wait(min(left_s, WAIT_S))
    return erasure


def _why(erasure: "Erasure | None", *, is_learning: bool, timeout_s: float) -> str:
    done = "what it had is removed, but no version is published" if erasure else "no learner has seen it"
    hint = "`lifelong rollout status` says why" if is_learning else "is `lifelong learn` running?"
    return f"after {timeout_s:g} s {done} ({hint}); the request stays, and the same command asks again"


def _told(erasure: "Erasure", manifest: "WeightManifest") -> dict[str, Any]:
    import msgspec

    proof = {"version": manifest.version, "erased": manifest.erased, "trained_through": manifest.trained_through}
    return {**msgspec.to_builtins(erasure), "current": proof}


def _summary(erasure: "Erasure", manifest: "WeightManifest") -> list[str]:
    where = ", ".join(f"{count} {place.replace('_', ' ')}" for place, count in erasure.removed.items() if count)
    lines = [
        f"Removed: {where if where else 'nothing, for nothing of it was kept'}.",
        f"Version {erasure.version} is the first without it; version {manifest.version} says that {manifest.erased} "
        f"erasures went before it, and this is number {erasure.number}.",
    ]
    if erasure.is_purged:
        lines.append("No older version and no older checkpoint is left.")
    else:
        lines.append(
            f"Versions before {erasure.version} and their checkpoints go when the rollout needs none of them any more; "
            "ask again to see whether they have."
        )
    return lines
