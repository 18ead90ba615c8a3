"""Pictures and sounds go the whole way, with the stems of an encoder that has random weights.

event -> answer with tokens in place of bytes -> label -> learnt -> version -> swap -> right; erasure; bad parts
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest

from learner.learner import Learner
from learner.rounds.worker import INLINE
from lifelong.plugins.inputs.media import AUDIO, IMAGE, MAX_MEDIA_EVENT_BYTES, file_of
from lifelong.plugins.inputs.media_tensors import AUDIO_TENSORS, IMAGE_TENSORS
from model.encoders import open_encoder, open_inputs
from model.errors import UnreadableInput
from model.inputs import tensors_of, tokenize_contents
from model.media.tokens import AUDIO as SOUNDS
from model.media.tokens import IMAGE as PICTURES
from model.packed import Inputs
from serving.http.requests import Bodies
from serving.pipeline import make_encode, make_items
from serving.queue import DEFAULT
from serving.v2 import BYTES, Tensor, decode_events
from tests.flow.test_in_memory import NUM_EVENTS, Service, share_right
from tests.learner.publish_rig import PublishRig
from tests.learner.small_learner import SUBJECT_DIGEST, Setting, build_learner
from tests.learner.streams import make_subject
from tests.lifelong.media.files import huge_png, png, tone, wav
from tests.lifelong.plugins.inputs.media_encoder import no_stems_after, write_media_encoder
from tests.lifelong.plugins.inputs.test_media import audio, image
from tests.serving.http.served_api import ServedApi
from tests.serving.versions import RECEIPTS
from wire.envelope import from_message
from wire.inputs import Part, max_event_bytes, parse_record
from wire.message import Message, Place
from wire.receipts import Receipts
from wire.records import Event, Feedback
from wire.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with no_stems_after():
        yield write_media_encoder(tmp_path / "encoder")


@pytest.fixture
def inputs(folder: Path) -> Inputs:
    return open_inputs(str(folder))


def picture(number: int) -> Part:
    """A bar, upright or lying, at one of several places."""
    grey = np.random.default_rng(number).integers(0, 60, (28, 28)).astype(np.uint8)
    place = 4 + number % 7 * 3
    if number % 2:
        grey[place : place + 3, 2:26] = 250
    else:
        grey[2:26, place : place + 3] = 250
    return image(png(grey))


def sound(number: int) -> Part:
    """A tone, low or high, of a length of its own."""
    return audio(wav(tone(300 if number % 2 else 2_000, 0.2 + number % 5 / 10, amplitude=2_000 + 100 * number)))


LABELS = [("upright", "lying")[number % 2] for number in range(NUM_EVENTS)]


def events(name: str) -> list[Event]:
    """Events of pictures, of sounds, and of both."""
    parts = [((picture(n),), (sound(n),), (picture(n), sound(n)))[n % 3] for n in range(NUM_EVENTS)]
    return [Event(id=f"{name}-{number}", parts=each) for number, each in enumerate(parts)]


class MediaRig(PublishRig):
    """A learner under the encoder of a folder, and its publisher."""

    encoder: ClassVar[str]

    def make_learner(self, receipts: Receipts | None, folder: Path, **changed: Setting) -> Learner:
        return build_learner(*open_encoder(self.encoder), receipts, INLINE, folder, **changed)


@pytest.fixture
def service(store: Store, tmp_path: Path, folder: Path, inputs: Inputs) -> Iterator[Service]:
    MediaRig.encoder = str(folder)
    started = Service(store, tmp_path, rig=MediaRig, inputs=inputs, changed={"trainable_layers": 0})
    started.start()
    yield started
    started.close()


def test_pictures_and_sounds_are_answered_corrected_and_then_right(service: Service) -> None:
    service.publish()
    before = service.answer(events("first"))
    for answer, event in zip(before, events("first"), strict=True):
        assert [part.keys() for part in answer.parts] == [{"type", "digest", "stem", "tokens"}] * len(event.parts)
    service.label(before, LABELS)
    service.publish()
    service.await_swap()
    assert share_right(service.answer(events("second")), LABELS) >= 0.9


def test_the_learner_keeps_no_bytes_of_a_part_and_forgets_the_tokens_of_an_erased_subject(service: Service) -> None:
    service.publish()
    asked = [
        msgspec.structs.replace(event, key=make_subject(number % 5)) for number, event in enumerate(events("first"))
    ]
    service.label(service.answer(asked), LABELS)
    learner = service.learner.learner
    learner.tick()
    # The names of the classes are samples, too.
    texts = {sample.text for sample in learner.replay.samples()} - {*LABELS}
    assert len(texts) > 30 and all("tokens" in text and "data" not in text and len(text) < 2_000 for text in texts)
    learner.erased.add(SUBJECT_DIGEST(make_subject(3)))
    gone = [sample.text for sample in learner.replay.samples() if sample.subject == make_subject(3)]
    assert gone and learner.erase(keep_alive=lambda: None)["replay"] == len(gone)
    assert not {*gone} & {sample.text for sample in learner.replay.samples()}


def made(events: Sequence[Event], inputs: Inputs) -> list[Any]:
    return make_items(events, [lambda _: None] * len(events), make_encode(inputs, lambda: 64), DEFAULT, 64)


def test_the_symbols_find_their_tensors(inputs: Inputs) -> None:
    assert tensors_of(IMAGE) is IMAGE_TENSORS and tensors_of(AUDIO) is AUDIO_TENSORS
    assert IMAGE_TENSORS.kept(*file_of(picture(1))) == IMAGE.cut(picture(1), 64)


def test_the_cost_of_an_event_is_the_number_of_its_tokens(inputs: Inputs) -> None:
    each = [
        Event(id="e", parts=(picture(1),)),
        Event(id="e", parts=(sound(1),)),
        Event(id="e", text="four", parts=(picture(1), sound(1))),
    ]
    costs = [len(item.token_ids) for item in made(each, inputs)]
    assert costs == [1 + PICTURES.places, 1 + SOUNDS.places, 4 + PICTURES.places + SOUNDS.places]


def test_a_missing_part_costs_nothing_and_an_event_does_not_depend_on_its_batch(inputs: Inputs) -> None:
    alone = [made([event], inputs)[0].token_ids for event in events("e")]
    assert [item.token_ids for item in made(events("e"), inputs)] == alone
    assert alone[2] == alone[2][:17] + made([Event(id="e", parts=(sound(2),))], inputs)[0].token_ids


def test_tokens_of_a_part_are_those_of_its_file_and_survive_a_second_cut(inputs: Inputs) -> None:
    for codec, part in ((IMAGE, picture(3)), (AUDIO, sound(3))):
        kept = codec.cut(part, 64)
        assert codec.problem(kept) == "" and codec.cut(kept, 64) == kept
        assert codec.cut(kept, 5) == codec.cut(part, 5) == {**kept, "tokens": kept["tokens"][:5]}
        whole, sent = (parse_record(Event(id="e", parts=(each,))) for each in (kept, part))
        assert tokenize_contents([whole], inputs) == tokenize_contents([sent], inputs) == [kept["tokens"]]


BROKEN = b64encode(png(np.random.default_rng(0).integers(0, 255, (28, 28)).astype(np.uint8))[:-300]).decode()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"data": BROKEN}, "the input image fails on it: MediaError: the PNG is broken: "),
        ({"stem": "0" * 16}, "the input image fails on it: UnreadableInput: its tokens are of the stem 0000"),
        ({"tokens": [5]}, "its tokens are not those of the stem for 'image'"),
        ({"tokens": [(1 << 51) + (1 << 44)]}, "its tokens are not those of the stem for 'image'"),
        ({"tokens": [1 << 52]}, "its tokens are not those of the stem for 'image'"),
    ],
)
def test_a_part_that_cannot_be_decoded_makes_its_event_alone_unreadable(
    inputs: Inputs, changed: dict[str, Any], said: str
) -> None:
    part = picture(1) if "data" in changed else IMAGE.cut(picture(1), 64)
    bad = Event(id="bad", parts=({**part, **changed},))
    first, failing, last = made([events("e")[0], bad, events("e")[1]], inputs)
    assert said in failing.unreadable
    assert (first.unreadable, last.unreadable) == ("", "") and first.token_ids and last.token_ids


def test_an_encoder_without_stems_reads_texts_only(inputs: Inputs) -> None:
    assert max_event_bytes() == MAX_MEDIA_EVENT_BYTES
    with no_stems_after():
        pass
    (item,) = made([Event(id="e", parts=(picture(1),))], inputs)
    assert "the encoder has no stem for 'image': `lifelong encoder train` makes one" in item.unreadable
    with pytest.raises(UnreadableInput, match="which the encoder does not have"):
        tokenize_contents(
            [parse_record(Event(id="e", parts=({"type": "image", "digest": "a", "stem": "b", "tokens": [1]},)))], inputs
        )


def test_a_label_that_carries_its_event_is_learnt(service: Service) -> None:
    learner = service.learner.learner
    labels = [
        RECEIPTS.approved(Feedback(event_id=f"e-{number}", label=LABELS[number], parts=(picture(number),), time_ms=1))
        for number in range(20)
    ]
    assert learner.learn_many(labels, {}) == []
    assert learner.counts["learnt"] + learner.counts["holdout"] == 20


def find_errors(events: list[dict[str, Any]]) -> list[str]:
    """Returns the error of each event of one HTTP request to a replica whose encoder reads texts only."""
    with ServedApi(bodies=Bodies(max_bytes=16 << 20)).running() as served:
        reply = served.client.post("/v1/predict", json={"events": events})
    assert reply.status_code == 200, reply.text
    return [each.get("error", {}).get("message", "") for each in reply.json()["answers"]]


def test_bad_parts_are_refused_over_http_and_the_other_events_answered(inputs: Inputs) -> None:
    text = {"text": "where is my parcel"}
    huge = {"parts": [image(huge_png())]}
    broken = {"text": "look", "parts": [{**picture(1), "data": BROKEN}]}
    first, second, third, fourth = find_errors([text, huge, broken, text])
    assert first == fourth == ""
    assert "the image cannot be read: the picture has 30,000 x 30,000 pixels" in second
    assert "the input image fails on it: MediaError: the PNG is broken" in third


def test_a_picture_of_megabytes_is_read_from_every_way_in(inputs: Inputs) -> None:
    large = image(bytes(2_000 * 2_000), "image/raw;width=2000;height=2000")
    # The encoder of this replica has other inputs, so the event comes as far as to its tokens.
    assert find_errors([{"parts": [large]}]) == [find_errors([{"parts": [picture(1)]}])[0]]
    message = Message(key=None, value=json.dumps({"parts": [large]}).encode())
    event = from_message(Event, message, Place(topic="t", partition=0, offset=0))
    (item,) = made([event], inputs)
    assert len(item.token_ids) == 1 + PICTURES.places
    (event,) = decode_events([Tensor("parts", BYTES, (1,), [json.dumps([large])])], now_ms=1, new_id=lambda: "new")
    assert event.parts == (large,)
