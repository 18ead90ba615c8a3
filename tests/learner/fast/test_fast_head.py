"""The sums of the fast head are exact: unlearning equals never having learnt."""

from dataclasses import replace

import torch

from learner.encoder.served import ServedEncoder, export_head
from learner.fast.fast_head import FastHead
from learner.samples import Labelled
from tests.learner.small_learner import small_served
from tests.learner.streams import label_of, make_text

SAMPLES = [Labelled(make_text(number), label_of(number)) for number in range(40)]


def make_head(samples: list[Labelled]) -> FastHead:
    head = FastHead(small_served(), penalty=1e-4)
    head.admit_all(dict.fromkeys(sample.label for sample in SAMPLES))
    head.relearn(samples)
    return head


def assert_same(one: FastHead, other: FastHead) -> None:
    for name, sums in one.export().items():
        assert torch.equal(sums, other.export()[name]), name


def test_order_and_batches_change_no_bit() -> None:
    backwards = make_head([])
    for sample in reversed(SAMPLES):
        backwards.learn_many([sample])
    assert_same(make_head(SAMPLES), backwards)


def test_unlearning_equals_never_having_learnt() -> None:
    head = make_head(SAMPLES)
    head.unlearn_many(SAMPLES[:7])
    assert_same(head, make_head(SAMPLES[7:]))


def test_a_copy_learns_by_itself() -> None:
    head = make_head(SAMPLES)
    copied = head.copy()
    copied.unlearn_many(SAMPLES[:7])
    assert_same(head, make_head(SAMPLES))
    assert_same(copied, make_head(SAMPLES[7:]))


def test_an_exported_state_is_restored_bit_for_bit() -> None:
    head = make_head(SAMPLES)
    restored = FastHead(small_served(), penalty=1e-4)
    restored.restore(head.export(), head.ridge.classes)
    assert_same(head, restored)
    assert torch.equal(head.solve(), restored.solve())


def test_rows_may_be_put_into_another_order() -> None:
    head = make_head(SAMPLES)
    classes = tuple(reversed(head.ridge.classes))
    reordered = head.with_order(classes)
    assert reordered.ridge.classes == classes
    assert torch.equal(reordered.means(["a"] if "a" in classes else classes[:1]), head.means(classes[:1]))


def test_the_next_encoder_begins_with_the_same_rows_and_nothing_learnt() -> None:
    head = make_head(SAMPLES)
    empty = head.successor(small_served())
    assert empty.ridge.classes == head.ridge.classes
    assert not empty.z_sums_CD.any()


def test_the_distance_of_a_text_is_to_the_nearest_class_mean() -> None:
    head = make_head([])
    z_BD, _ = head.encode(SAMPLES[:1])
    assert head.nearest(z_BD).distances_B.tolist() == [1.0]
    head.learn_many(SAMPLES[:1])
    assert abs(head.nearest(z_BD).distances_B.item()) < 1e-5
    assert head.nearest(z_BD).by_all == [SAMPLES[0].label]


def test_a_head_grows_with_its_classes() -> None:
    served = small_served()
    roomy = ServedEncoder(replace(served.config, label_capacity=600), served.tokenizer, served.tensors)
    head = FastHead(roomy, penalty=1e-4, num_recent=8)
    samples = [Labelled("", f"class {number}", time_ms=number) for number in range(500)]
    z_ND = torch.nn.functional.normalize(torch.randn(500, served.config.d_model), dim=1)
    for first in range(0, 500, 100):
        places = slice(first, first + 100)
        head.admit_all(sample.label for sample in samples[places])
        head.learn_encoded(z_ND[places], roomy.features(z_ND[places]), samples[places])
        assert head.nearest(z_ND[places]).by_all == [sample.label for sample in samples[places]]
    assert len(head.z_sums_CD) == 512 and head.recency.recent.num_held == 8
    restored = FastHead(roomy, penalty=1e-4, num_recent=8)
    restored.restore(head.export(), head.ridge.classes)
    assert_same(head, restored)
    assert torch.equal(head.means(head.ridge.classes), restored.means(head.ridge.classes))
    assert torch.equal(head.solve(), restored.solve())
    assert roomy.head(export_head(roomy.config, head.solve(), temperature=1.0)).config.label_capacity == 512
