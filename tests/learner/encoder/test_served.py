"""Cached vectors of answers: learning a text has the same result with and without them."""

from collections.abc import Callable, Iterator

import msgspec
import torch

from learner.encoder.served import VECTOR_BYTES, VectorCache, cache_vectors
from learner.learner import Learner
from model.head import OUT
from model.quantized import QuantizedEncoder
from tests.learner.small_learner import CONFIG, small_learner
from tests.learner.streams import stream
from wire.receipts import Receipts
from wire.records import Answer, Feedback, TextVector

RECEIPTS = Receipts(b"a key for the tests")
OURS = "as ours"


def known_vectors() -> VectorCache:
    return VectorCache(OURS, width=2)


def make_vector(text: str, encoding: str = OURS, z: bytes = bytes(8)) -> TextVector:
    return RECEIPTS.vector(text, z, encoding)


def test_a_vector_is_found_by_its_text() -> None:
    known = known_vectors()
    known.add("hi", make_vector("hi", z=b"\x00\x00\x80\x3f" + bytes(4)))
    found = known.of(["ho", "hi"])
    assert list(found) == [1] and found[1].tolist() == [1.0, 0.0]
    known.clear()
    assert known.of(["hi"]) == {}


def test_vectors_of_another_encoding_are_not_cached() -> None:
    known = known_vectors()
    known.add("a", make_vector("a", encoding="other"))
    known.add("b", make_vector("b", z=bytes(4)))
    VectorCache("", width=2).add("d", make_vector("d", encoding=""))
    assert known.of(["a", "b"]) == {}


def test_the_oldest_entry_is_dropped_first() -> None:
    known = known_vectors()
    texts = [str(number) * (VECTOR_BYTES // 4) for number in range(5)]
    for text in texts:
        known.add(text, make_vector(text))
        # A repeated text takes no space.
        known.add(text, make_vector(text))
    assert list(known.of(texts)) == [2, 3, 4]
    known.add("short", make_vector("short"))
    assert list(known.of([*texts, "short"])) == [2, 3, 4, 5]


def test_a_vector_without_our_code_is_not_believed() -> None:
    known = known_vectors()
    (answer,) = [record for record in stream(0, 1) if isinstance(record, Answer)]
    forged = Receipts(b"another key").vector(answer.text, bytes(8), OURS)
    for vector, receipts in ((forged, RECEIPTS), (make_vector(answer.text), None), (None, RECEIPTS)):
        cache_vectors([msgspec.structs.replace(answer, vector=vector)], known, receipts)
    assert known.of([answer.text]) == {}
    cache_vectors([msgspec.structs.replace(answer, vector=make_vector(answer.text))], known, RECEIPTS)
    assert list(known.of([answer.text])) == [0]


def learnt_with(vector: Callable[[str], TextVector | None]) -> Learner:
    """Returns a learner of a few labels whose answers had these vectors."""

    def records() -> Iterator[Answer | Feedback]:
        for record in stream(0, 12):
            is_answer = isinstance(record, Answer)
            yield msgspec.structs.replace(record, vector=vector(record.text)) if is_answer else record

    it = small_learner(RECEIPTS, learn_names=False)
    it.fast_head.served.known = VectorCache(OURS, CONFIG.d_model)
    it.learn_many(list(records()), {})
    return it


def test_the_sums_are_the_same_with_and_without() -> None:
    served = small_learner().fast_head.served
    given = learnt_with(lambda text: make_vector(text, z=served.z_many([text])[0].numpy().tobytes()))
    encoded = learnt_with(lambda _: None)
    sums = encoded.fast_head.export()
    assert all(torch.equal(value, sums[name]) for name, value in given.fast_head.export().items())


def test_a_text_with_a_cached_vector_is_not_encoded() -> None:
    z_D = torch.nn.functional.one_hot(torch.tensor(3), CONFIG.d_model).float()
    it = learnt_with(lambda text: make_vector(text, z=z_D.numpy().tobytes()))
    assert torch.equal(it.fast_head.means(it.fast_head.ridge.classes), z_D.expand(len(it.fast_head.ridge.classes), -1))


def test_replicas_and_the_learner_use_the_same_name_of_the_encoding() -> None:
    """A manifest has the tensors of the head besides those of the encoder."""
    served = small_learner().fast_head.served
    digests = {name: tensor.entry.digest for name, tensor in served.tensors.items()}
    encoder = QuantizedEncoder.from_tensors(CONFIG, {name: each.tensor for name, each in served.tensors.items()})
    name = encoder.encoding(digests | {OUT: "of the head"}, served.tokenizer.max_tokens)
    known = VectorCache(name, width=2)
    assert encoder.encoding(digests, served.tokenizer.max_tokens) == name
    known.add("hi", make_vector("hi", encoding=name))
    assert (list(known.of(["hi"])) == [0]) == bool(name)


def test_an_erasure_forgets_all_vectors() -> None:
    it = learnt_with(lambda text: make_vector(text, z=bytes(4 * CONFIG.d_model)))
    texts = [sample.text for sample in it.replay.samples()]
    assert it.fast_head.served.known.of(texts)
    it.erase(keep_alive=lambda: None)
    assert not it.fast_head.served.known.of(texts)
