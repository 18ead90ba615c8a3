"""Pictures and sounds go the whole way with the family `media`, and none of their bytes is kept.

event --front end, stem--> tokens --> answer -> label -> version -> swap -> slow round -> checkpoint -> restore
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from evals.streams.digits import Recording, picture_content, sound_content
from learner.learner import Learner
from learner.rounds.worker import INLINE
from model.encoders import open_encoder, open_inputs
from tests.evals.streams.fsdd_files import tone
from tests.flow.test_in_memory import MIN_RIGHT, NUM_EVENTS, Service, share_right
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import Setting, build_learner
from tests.model.media.small import small_files
from wire.inputs import decode_content, encode_content, fields_of
from wire.receipts import Receipts
from wire.records import Answer, Event
from wire.store import Store

ENCODER = "encoder"
LABELS = [str(number % 3) for number in range(NUM_EVENTS)]


def picture(number: int) -> str:
    """Returns the content of a picture with a bar, whose place says the class, in noise."""
    pixels = torch.randint(60, (28, 28), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
    pixels[9 * (number % 3) : 9 * (number % 3) + 6] = 230
    return picture_content(pixels.flatten())


def sound(number: int) -> str:
    return sound_content(Recording(0, "ann", number, tone(3 * (number % 3), "ann", number)))


def events(name: str) -> list[Event]:
    """Returns events with a picture, or a sound, or both, or both and a text."""
    found: list[Event] = []
    for number in range(NUM_EVENTS):
        parts = decode_content(picture(number))["parts"], decode_content(sound(number))["parts"]
        kept = (parts[0], parts[1], parts[0] + parts[1], parts[0] + parts[1])[number % 4]
        found.append(Event(id=f"{name}-{number}", parts=kept, text="it is a digit" if number % 4 == 3 else ""))
    return found


class MediaRig(PublishRig):
    """A learner under the family, and its publisher. The encoder is in a folder below the learner's."""

    def make_learner(self, receipts: Receipts | None, folder: Path, **changed: Setting) -> Learner:
        return build_learner(*open_encoder(written(folder)), receipts, INLINE, folder, **changed)


def written(folder: Path) -> str:
    """Writes the small encoder, if it is not there yet, and returns its folder."""
    path = folder / ENCODER
    path.mkdir(exist_ok=True, parents=True)
    for name, content in small_files().items():
        (path / name).write_bytes(content)
    return str(path)


@pytest.fixture
def service(store: Store, tmp_path: Path) -> Iterator[Service]:
    started = Service(
        store, tmp_path, rig=MediaRig, inputs=open_inputs(written(tmp_path)), changed={"trainable_layers": 1}
    )
    started.start()
    yield started
    started.close()


def is_without_bytes(answer: Answer) -> bool:
    return all(part.keys() == {"type", "digest", "stem", "tokens"} for part in answer.parts)


def test_pictures_and_sounds_are_answered_corrected_and_right(service: Service) -> None:
    service.publish()
    before = service.answer(events("first"))
    assert all(map(is_without_bytes, before)) and len(before[2].parts) == 2
    service.label(before, LABELS)
    assert service.publish() == 2
    after = service.answer(events("second"))
    assert {answer.weights_version for answer in after} == {2}
    assert share_right(after, LABELS) >= MIN_RIGHT

    service.learner.train()
    version = service.publish()
    trained = service.answer(events("third"))
    assert version in {answer.weights_version for answer in trained}
    assert share_right(trained, LABELS) >= MIN_RIGHT


def test_replica_and_learner_have_the_same_vectors(service: Service) -> None:
    service.publish()
    answers = service.answer(events("first"))
    contents = [encode_content(**fields_of(answer)) for answer in answers]
    served = service.learner.learner.fast_head.served
    z_BD = served.z_many(contents)
    assert torch.equal(z_BD, torch.cat([served.z_many([each]) for each in contents]))
    sent = [encode_content(**fields_of(event)) for event in events("first")]
    assert torch.equal(served.z_many(sent), z_BD)
