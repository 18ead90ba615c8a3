"""Tests of the newest checkpoint at a shared address: sending, fencing, and fetching by another learner."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import fsspec  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.errors import CheckpointFailed, StateRefused
from learner.state.checkpoints import Checkpoints
from learner.state.shared import SharedFolder, shared_folder
from tests.learner.snapshots import snapshot
from tests.waiting import eventually
from wire.errors import FolderTaken, StaleEpoch
from wire.files import OWNER_FILE, FolderOwner, claim_folder
from wire.keyring import KeyRing, Kind, new_key, parse
from wire.store import SEAL_CHARS, Seals

_numbers = count()

SEALS = Seals(parse("a key for tests"), "eu.")


class Node:
    """A learner's folder, and its access to the shared address."""

    def __init__(self, address: str, folder: Path) -> None:
        self.folder = folder
        self.shared = SharedFolder(address, folder, SEALS)
        self.checkpoints = Checkpoints(folder, num_newest=2, on_written=self.shared.offer)

    def lead(self, epoch: int, value: float) -> None:
        """Starts as a leader does: continues from the newest checkpoint, and writes one of its own."""
        self.shared.fetch()
        self.checkpoints.write(snapshot(1, epoch=epoch, value=value))

    def value(self) -> float | None:
        found = self.checkpoints.newest()
        return float(found.tensors["head.gram"][0, 0]) if found else None


@pytest.fixture(params=["file", "memory"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Returns the address of a folder, or of an object store, which has no real folders."""
    return f"memory://bucket{next(_numbers)}/learner" if request.param == "memory" else f"file://{tmp_path}/shared"


@pytest.fixture
def node(address: str, tmp_path: Path) -> Iterator[Callable[[str], Node]]:
    nodes = list[Node]()

    def of(name: str) -> Node:
        nodes.append(Node(address, tmp_path / name))
        return nodes[-1]

    yield of
    for each in nodes:
        each.shared.close()


def names_at(address: str) -> list[str]:
    files, root = fsspec.core.url_to_fs(address)
    return sorted(path.rpartition("/")[2] for path in files.ls(root, detail=False))


def test_another_node_goes_on_from_what_was_sent(node: Callable[[str], Node], address: str) -> None:
    first, second = node("first"), node("second")
    first.lead(1, value=1)
    (first.folder / "abc.encoder").write_bytes(b"weights")
    for value in (2, 3):
        first.checkpoints.write(snapshot(1, value=value))
    first.shared.close()
    assert names_at(address) == ["000000003-e1-v1.checkpoint", "abc.encoder"], "only what the next leader needs"
    assert (second.checkpoints.newest(), second.shared.highest_epoch()) == (None, 1)
    second.shared.fetch()
    assert second.value() == 3 and (second.folder / "abc.encoder").read_bytes() == b"weights"


def test_who_led_last_goes_on_from_its_own_folder(node: Callable[[str], Node]) -> None:
    """A checkpoint that it could not send any more is newer than the one at the address."""
    first = node("first")
    first.lead(1, value=1)
    Checkpoints(first.folder, num_newest=2).write(snapshot(1, value=2))
    again = node("first")
    again.shared.fetch()
    assert again.value() == 2


def test_a_leader_that_slept_overwrites_nothing(node: Callable[[str], Node], address: str) -> None:
    slept, successor = node("slept"), node("successor")
    slept.lead(1, value=1)
    successor.lead(2, value=2)
    before = names_at(address)
    slept.checkpoints.write(snapshot(1, value=3))
    slept.shared.close()
    assert names_at(address) == before
    with pytest.raises(StaleEpoch, match="epoch 2 has written; ours is 1"):
        slept.checkpoints.write(snapshot(1, value=4))
    third = node("third")
    third.shared.fetch()
    assert third.value() == 2


def put(address: str, name: str, content: bytes) -> None:
    """Writes a file at the address, as anybody with write access can."""
    files, root = fsspec.core.url_to_fs(address)
    files.pipe_file(f"{root}/{name}", content)


@pytest.mark.parametrize("forgery", ["unsealed", "renamed", "changed", "of another service"])
def test_what_is_not_sealed_under_its_name_is_not_fetched(
    tmp_path: Path, node: Callable[[str], Node], address: str, forgery: str
) -> None:
    """N18: the next leader restored a foreign checkpoint of a higher epoch, and signed versions made from it."""
    first = node("first")
    first.lead(1, value=1)
    first.shared.close()
    files, root = fsspec.core.url_to_fs(address)
    (name,) = names_at(address)
    sealed = files.cat_file(f"{root}/{name}")
    path = Checkpoints(tmp_path / "attacker", num_newest=1).write(snapshot(1, epoch=9, value=666))
    own = path.read_bytes()
    forged = {
        "unsealed": own,
        "renamed": sealed,
        "changed": own + sealed[-SEAL_CHARS:],
        "of another service": own + Seals(parse("a key for tests"), "us.").seal(own, f"checkpoint:{path.name}"),
    }
    put(address, path.name, forged[forgery])
    put(address, "abc.encoder", b"weights of an attacker")
    second = node("second")
    second.shared.fetch()
    assert second.value() == 1 and not (second.folder / "abc.encoder").exists()
    assert [each.name for each in second.folder.iterdir()] == [name]


def test_encoders_are_sealed_anew_after_the_keys_have_rotated(node: Callable[[str], Node], address: str) -> None:
    first = node("first")
    first.folder.mkdir(exist_ok=True)
    (first.folder / "abc.encoder").write_bytes(b"weights")
    first.lead(1, value=1)
    old = parse("a key for tests")
    new = KeyRing((new_key(Kind.SECRET), *old.keys))
    first.shared._seals = Seals(new, "eu.")
    first.checkpoints.write(snapshot(1, value=2))
    first.shared.close()
    second = node("second")
    second.shared._seals = Seals(KeyRing(new.keys[:1]), "eu.")
    second.shared.fetch()
    assert second.value() == 2 and (second.folder / "abc.encoder").read_bytes() == b"weights"


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=12))
def test_what_is_found_is_what_the_last_leader_knew(steps: list[tuple[int, bool]]) -> None:
    """Steps: a node takes the lead, or a node that led before, and may have lost the lease, writes on."""
    with TemporaryDirectory() as folder:
        nodes = [Node(f"file://{folder}/shared", Path(folder, str(number))) for number in range(3)]
        led: dict[int, int] = {}
        known = 0.0
        for step, (number, takes_lead) in enumerate(steps, 1):
            if takes_lead or number not in led:
                led[number] = epoch = max(led.values(), default=0) + 1
                nodes[number] = Node(f"file://{folder}/shared", Path(folder, str(number)))
                nodes[number].lead(epoch, value=step)
                known = step
                continue
            is_leader = led[number] == max(led.values())
            try:
                nodes[number].checkpoints.write(snapshot(1, epoch=led[number], value=step))
                nodes[number].shared.close()
            except StaleEpoch:
                assert not is_leader
            known = step if is_leader else known
            nodes[number] = Node(f"file://{folder}/shared", Path(folder, str(number)))
        last = Node(f"file://{folder}/shared", Path(folder, "last"))
        last.shared.fetch()
        assert (last.value() or 0) == known


@pytest.mark.parametrize("address", ["file"], indirect=True)
def test_an_address_that_is_away_stops_who_begins_to_lead_and_nobody_else(
    tmp_path: Path, node: Callable[[str], Node], address: str
) -> None:
    in_its_place = tmp_path / "shared"
    in_its_place.write_text("a file where the folder should be")
    first = node("first")
    with pytest.raises(CheckpointFailed, match="shared"):
        first.checkpoints.write(snapshot(1, value=1))
    in_its_place.unlink()
    first.checkpoints.write(snapshot(1, value=2))
    (moved := tmp_path / "shared").rename(tmp_path / "away")
    moved.write_text("away again")
    first.checkpoints.write(snapshot(1, value=3))
    eventually(lambda: not first.shared._is_sending)
    moved.unlink()
    first.checkpoints.write(snapshot(1, value=4))
    first.shared.close()
    assert names_at(address) == ["000000004-e1-v1.checkpoint"]


def test_what_a_kill_left_half_sent_is_never_found_and_goes(node: Callable[[str], Node], address: str) -> None:
    files, root = fsspec.core.url_to_fs(address)
    files.makedirs(root, exist_ok=True)
    files.pipe_file(f"{root}/000000009-e9-v1.checkpoint.77.temporary", b"half")
    first = node("first")
    first.lead(1, value=1)
    assert names_at(address) == ["000000001-e1-v1.checkpoint"]


@pytest.mark.parametrize(("address", "reason"), [("nosuch://bucket", "Protocol not known"), ("s3://bucket", "s3fs")])
def test_an_address_that_nothing_here_can_read_is_refused(address: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(StateRefused, match=f"learner.checkpoint_url: .*{reason}"):
        shared_folder(address, tmp_path, SEALS)


def test_an_address_of_another_service_is_refused_before_anything_is_read_or_written(
    node: Callable[[str], Node], address: str
) -> None:
    shop = FolderOwner(bus_prefix="shop.", store_prefix="shop:")
    first, standby, other = node("first"), node("standby"), node("other")
    for each in (first, standby):
        claim_folder(each.folder, shop, "learner.state_dir")
    claim_folder(other.folder, FolderOwner(bus_prefix="desk.", store_prefix="desk:"), "learner.state_dir")
    first.lead(1, value=1)
    standby.lead(2, value=2)
    before = names_at(address)
    with pytest.raises(FolderTaken, match=r"bus\.prefix 'shop\.'.*learner\.checkpoint_url"):
        other.lead(3, value=3)
    assert names_at(address) == before == ["000000002-e2-v1.checkpoint", OWNER_FILE]
    assert other.value() is None


def test_without_an_address_nothing_is_shared(tmp_path: Path) -> None:
    shared = shared_folder("", tmp_path, SEALS)
    shared.fetch()
    shared.offer(tmp_path / "000000001-e1-v1.checkpoint")
    shared.close()
    assert shared.highest_epoch() == 0 and not list(tmp_path.iterdir())
