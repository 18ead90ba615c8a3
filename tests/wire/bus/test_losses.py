"""Tests where a reader resumes after a loss, and which records it has read before."""

from wire.bus.losses import mark_after, mark_after_cut, mark_in_new_log, resume_point, was_read
from wire.bus.reading import Loss
from wire.bus.record_batches import Raw
from wire.records import LogMark


def raw(offset: int, *, appended_ms: int = 0, epoch: int = 0, is_gap: bool = False) -> Raw:
    return Raw(
        topic="t",
        partition=0,
        offset=offset,
        next_offset=offset + 1,
        appended_ms=appended_ms,
        epoch=epoch,
        is_gap=is_gap,
    )


def test_a_position_in_the_log_stays() -> None:
    assert resume_point("t/0", 7, start=0, end=7) == (7, 0, None, -1)


def test_what_expired_is_counted_and_is_no_loss() -> None:
    assert resume_point("t/0", 7, start=9, end=20) == (9, 2, None, -1)


def test_a_log_that_was_cut_is_a_loss_and_its_records_have_not_expired() -> None:
    assert resume_point("t/0", 7, start=0, end=5, epoch=3) == (5, 0, Loss("t/0", 7, 5), 3)
    assert resume_point("t/0", 7, start=6, end=6) == (6, 0, Loss("t/0", 7, 6), -1)


def test_behind_a_cut_everything_is_new_whatever_its_time_says() -> None:
    mark = mark_after_cut(LogMark(log="a", epoch=5, log_ms=100), 3)
    assert mark == LogMark(log="a", epoch=3, log_ms=100), "the next cut is found by the epoch of what is left"
    assert not was_read(mark, raw(5, appended_ms=90))


def test_a_mark_has_the_epoch_of_the_last_record_and_the_latest_time() -> None:
    mark = mark_after(LogMark(log="a", epoch=1, log_ms=100), raw(5, appended_ms=90, epoch=2))
    assert mark == LogMark(log="a", epoch=2, log_ms=100)
    assert mark_after(mark, raw(6, epoch=3, is_gap=True)) == LogMark(log="a", epoch=3, log_ms=100)


def test_in_a_new_log_records_that_are_not_newer_are_skipped_up_to_the_first_that_is() -> None:
    mark = mark_in_new_log(LogMark(log="a", epoch=1, log_ms=100), "b")
    assert mark == LogMark(log="b", log_ms=100, skip_ms=100)
    skipped = []
    for offset, appended_ms in enumerate((90, 100, 101, 95)):  # the clock of another broker may be behind
        record = raw(offset, appended_ms=appended_ms)
        skipped.append(was_read(mark, record))
        mark = mark_after(mark, record)
    assert skipped == [True, True, False, False] and mark.skip_ms == 0


def test_times_of_senders_say_nothing_of_what_was_read() -> None:
    mark = mark_in_new_log(LogMark(log="a", log_ms=100), "b")
    assert not was_read(mark, raw(0))
    assert not mark_after(mark, raw(0)).skip_ms
