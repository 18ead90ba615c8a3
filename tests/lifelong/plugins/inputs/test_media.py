"""Pictures and sounds as parts of events: what is valid, what is a bad message, and what is not imported for it."""

import json
import subprocess
import sys
from base64 import b64encode
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelong.media import MAX_BYTES
from lifelong.plugins.inputs.media import AUDIO, IMAGE, MAX_MEDIA_EVENT_BYTES, MAX_TOKEN
from services.versions import ROOT
from tests.lifelong.media.files import animated_png, cmyk, huge_png, png, tone, wav, with_data_length
from wire.dead_letters import refuse
from wire.envelope import check_fields, from_message, to_message
from wire.errors import BadMessage
from wire.inputs import MAX_EVENT_BYTES, Part, max_event_bytes
from wire.message import Message, Place
from wire.records import Event, Feedback

PNG = png(np.arange(784).reshape(28, 28).astype(np.uint8))
WAV = wav(tone(440, 0.2))
PLACE = Place(topic="t", partition=0, offset=0)


def image(data: bytes = PNG, media_type: str = "image/png") -> Part:
    return {"type": "image", "media_type": media_type, "data": b64encode(data).decode()}


def audio(data: bytes = WAV, media_type: str = "audio/wav") -> Part:
    return {"type": "audio", "media_type": media_type, "data": b64encode(data).decode()}


def kept(name: str = "image", **changed: Any) -> Part:
    return {"type": name, "digest": "ae4b", "stem": "07", "tokens": [1, 2], **changed}


@pytest.mark.parametrize(
    "part",
    [
        image(),
        image(bytes(12), "image/raw;width=2;height=2;channels=3"),
        image(png(np.zeros((5, 7), np.uint16))),
        audio(),
        audio(wav(np.zeros(800))),
        audio(wav(tone(440, 0.2), width=3)),
        audio(wav(tone(440, 0.2), channels=2), "audio/x-wav"),
        kept(),
        kept("audio"),
    ],
)
def test_parts_that_are_read(part: Part) -> None:
    check_fields(Event(id="e", parts=(part,)))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (image(huge_png()), "the image cannot be read: the picture has 30,000 x 30,000 pixels"),
        (image(animated_png()), "the image cannot be read: the PNG is animated"),
        (image(PNG[:33]), "the image cannot be read: the PNG is broken: it has no pixels"),
        (image(cmyk("JPEG")), "the image cannot be read: the picture is not a PNG"),
        (image(cmyk("JPEG"), "image/jpeg"), "the image cannot be read: the picture has the media type 'image/jpeg'"),
        (image(bytes(5), "image/raw;width=2;height=2"), "the image cannot be read: the raw picture has 5 bytes"),
        (image(b""), "the image cannot be read: the picture has no bytes"),
        ({**image(), "data": "!"}, "the image cannot be read: `data` is not base64"),
        ({**image(), "data": "é"}, "the image cannot be read: `data` is not base64"),
        ({**image(), "data": 7}, "the image cannot be read: it needs `data`"),
        (
            {**image(), "media_type": None},
            "the image cannot be read: it needs `data`, a file in base64, and its `media",
        ),
        ({"type": "image"}, "the image has no `data`"),
        (audio(with_data_length(WAV, 9_999)), "the audio cannot be read: the WAV is broken: it declares"),
        (audio(wav([])), "the audio cannot be read: the sound has no samples"),
        (audio(wav(np.zeros(31 * 8_000))), "the audio cannot be read: the sound has 31.0 s"),
        (audio(b"ID3", "audio/mpeg"), "the audio cannot be read: the sound has the media type 'audio/mpeg'"),
        (audio(b"ID3"), "the audio cannot be read: the sound is not a WAV"),
        (kept(tokens=[]), "the image has `tokens` that are not a list of 1 to 64 numbers"),
        (kept("audio", tokens=[1] * 65), "the audio has `tokens` that are not a list"),
        (kept(tokens=[True]), "the image has `tokens` that are not whole numbers"),
        (kept(tokens=[MAX_TOKEN]), "the image has `tokens` that are not whole numbers"),
        (kept(digest="../x"), "the image has no `data`"),
        (kept(stem=None), "the image has no `data`"),
        ({"type": "video"}, "`parts` has the `type` 'video', which no input has: there are audio, image"),
    ],
)
def test_a_part_that_cannot_be_read_is_a_bad_message_that_names_it(part: Part, said: str) -> None:
    with pytest.raises(BadMessage, match="wrong_schema") as caught:
        check_fields(Feedback(event_id="e", label="a", parts=(part,)))
    assert said in str(caught.value)
    message = to_message(Event(id="e", parts=(part,)))
    with pytest.raises(BadMessage) as refused:
        from_message(Event, message, PLACE)
    assert said in refuse(refused.value, message, PLACE, source="t").detail


@pytest.mark.parametrize(
    ("num_bytes", "said"), [(MAX_BYTES + 1, "has 4,194,305 bytes"), (MAX_BYTES + 3, "has 5,592,412 characters")]
)
def test_a_file_of_more_than_4_mib_has_a_problem(num_bytes: int, said: str) -> None:
    assert said in IMAGE.problem(image(bytes(num_bytes)))


def test_an_event_without_any_part_is_a_bad_message() -> None:
    message = Message(key=None, value=b'{"parts": []}')
    with pytest.raises(BadMessage, match="`text` is blank, and there are no `features`"):
        from_message(Event, message, PLACE)


@given(st.binary(max_size=80), st.sampled_from([PNG, WAV, b""]), st.integers(0, 90), st.sampled_from([IMAGE, AUDIO]))
def test_any_bytes_are_valid_or_have_a_problem(noise: bytes, data: bytes, place: int, codec: Any) -> None:
    part = {"image": image, "audio": audio}[codec.name](data[:place] + noise + data[place + 9 :])
    assert isinstance(codec.problem(part), str)


@given(
    st.dictionaries(
        st.sampled_from(["data", "media_type", "tokens", "digest", "stem"]),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists),
    )
)
def test_any_fields_are_valid_or_have_a_problem(fields: dict[str, Any]) -> None:
    assert isinstance(IMAGE.problem({"type": "image", **fields}), str)


def test_parts_are_rendered_in_one_line() -> None:
    assert (IMAGE.render(image()), AUDIO.render(kept("audio", digest="0123456789"))) == ("picture", "sound 01234567")


def test_large_events_are_read_only_where_an_encoder_has_stems() -> None:
    assert (max_event_bytes(), IMAGE.max_bytes) == (MAX_EVENT_BYTES, 0)
    assert 4 * MAX_BYTES / 3 < MAX_MEDIA_EVENT_BYTES


def test_clients_read_parts_without_torch() -> None:
    script = (
        "import json, sys\n"
        "from wire.envelope import check_fields\n"
        "from wire.records import Event\n"
        "check_fields(Event(id='e', parts=tuple(json.loads(sys.argv[1]))))\n"
        "print('torch' in sys.modules, 'model' in sys.modules)\n"
    )
    call = [sys.executable, "-c", script, json.dumps([image(), audio()])]
    assert subprocess.run(call, capture_output=True, text=True, cwd=ROOT, check=True).stdout.split() == ["False"] * 2


def file_message(value: bytes, content_type: str, *headers: tuple[str, bytes]) -> Message:
    return Message(key=b"ann", value=value, headers=(("content-type", content_type.encode()), *headers))


@pytest.mark.parametrize(
    ("file", "content_type", "part"),
    [
        (PNG, "image/png", image()),
        (PNG, "Image/PNG", image()),
        (bytes(4), "image/raw;width=2;height=2", image(bytes(4), "image/raw;width=2;height=2")),
        (WAV, "audio/wav", audio()),
    ],
)
def test_a_file_alone_is_an_event(file: bytes, content_type: str, part: Part) -> None:
    event = from_message(Event, file_message(file, content_type, ("ce_id", b"7")), PLACE)
    assert event == Event(id="7", key="ann", parts=(part,))
    assert from_message(Event, to_message(event), PLACE) == event
    assert from_message(Event, file_message(file, content_type), PLACE).id == str(PLACE)


@pytest.mark.parametrize(
    ("message", "reason", "detail"),
    [
        (file_message(PNG[:20], "image/png"), "wrong_schema", "the image cannot be read"),
        (file_message(WAV, "audio/mpeg"), "wrong_schema", "audio/wav is read"),
        (file_message(b"", "image/png"), "empty", "no value"),
        (file_message(PNG, "video/mp4"), "undecodable", "not JSON"),
        (file_message(bytes(3 * MAX_EVENT_BYTES // 4), "image/png"), "oversized", "bytes"),
        (file_message(PNG, "image/png", ("ce_type", b"lifelong.feedback.v1")), "wrong_type", "ce_type"),
    ],
)
def test_files_that_are_refused(message: Message, reason: str, detail: str) -> None:
    with pytest.raises(BadMessage, match=detail) as refused:
        from_message(Event, message, PLACE)
    assert refused.value.reason == reason


def test_only_an_event_is_a_file() -> None:
    with pytest.raises(BadMessage, match="not JSON"):
        from_message(Feedback, file_message(PNG, "image/png"), PLACE)
