"""`lifelong forget`: erases everything that was learnt from a subject's texts."""

import json
import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.context import CliContext, JsonOption, reads_settings

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
    """Erase what was learnt from the texts of a subject, publish weights without it, and never learn from it again."""
    from services.keys import ring_of
    from services.stack import open_store
    from wire.subjects import subject_digest

    if not subject:
        raise typer.BadParameter("give the key of the events; an event without a key is about nobody")
    settings = context.attached()
    digest = subject_digest(ring_of(settings).subject, subject)
    with closing(open_store(settings)) as store:
        store.erasures.request(digest)
        if not wait:
            print(json.dumps({"digest": digest}) if as_json else f"Asked for, as {digest}. The learner will see to it.")
            return
        erasure = _published(store, digest, timeout_s=timeout)
        manifest = store.versions.manifest(store.versions.current())
    print(_as_json(erasure, manifest) if as_json else _summary(erasure, manifest))


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


def _as_json(erasure: "Erasure", manifest: "WeightManifest") -> str:
    import msgspec

    proof = {"version": manifest.version, "erased": manifest.erased, "trained_through": manifest.trained_through}
    return json.dumps({**msgspec.to_builtins(erasure), "current": proof}, indent=2)


def _summary(erasure: "Erasure", manifest: "WeightManifest") -> str:
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
    return "\n".join(lines)
