"""Every failure is one class of the tree and says where it happened and what to do."""

from __future__ import annotations

import errno
import pickle
import shutil

import pytest

import stratalog
from stratalog import config, errors
from stratalog.log._binding import ffi, lib


def every_class(root=errors.StratalogError):
    yield root
    for child in root.__subclasses__():
        yield from every_class(child)


def test_every_status_of_the_header_has_its_class():
    names = {}
    for status in range(1, 100):
        name = ffi.string(lib.sl_status_name(status)).decode()
        if not name.startswith("SL_E_"):
            break
        names[status] = name
    assert len(names) == 17
    for status, name in names.items():
        kind = errors.error_for_status(status)
        words = name.removeprefix("SL_E_").lower().split("_")
        shown = {
            "io": "Storage", "not found": "LogNotFound", "exists": "LogExists",
            "no memory": "OutOfMemory", "corrupt": "CorruptLog", "locked": "LogLocked",
            "closed": "LogClosed", "invalid": "InvalidArgument", "out of range": "OffsetOutOfRange",
            "unsupported": "UnsupportedFormat", "timed out": "WaitTimeout",
        }.get(" ".join(words), "".join(word.title() for word in words))  # fmt: skip
        assert kind.__name__ == f"{shown}Error", name
        assert getattr(lib, name) == status
    assert errors.error_for_status(99) is errors.StratalogError


@pytest.mark.parametrize("kind", list(every_class()))
def test_text_fields_and_pickle(kind):
    error = kind("it broke", path="a/b.log", offset=7, position=99, system_errno=errno.EIO)
    text = str(error)
    assert text.startswith("it broke (a/b.log, offset 7, position 99, EIO)")
    assert kind.remedy in text
    assert kind.__name__ in errors.__doc__
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert (type(again), str(again)) == (kind, text)
    if isinstance(error, OSError):
        assert (error.errno, error.filename) == (errno.EIO, "a/b.log")


def test_limits_are_the_engines():
    options = ffi.new("sl_options *")
    lib.sl_options_default(options)
    assert options.segment_bytes == config.SEGMENT_BYTES_DEFAULT
    assert options.segment_index_bytes == config.SEGMENT_INDEX_BYTES_DEFAULT
    assert options.index_interval_bytes == config.INDEX_INTERVAL_BYTES_DEFAULT
    assert options.batch_bytes == config.BATCH_BYTES_DEFAULT
    assert options.sync_interval_ms == config.SYNC_INTERVAL_MS_DEFAULT
    assert options.sync_interval_bytes == config.SYNC_INTERVAL_BYTES_DEFAULT
    assert options.decompressed_bytes_max == config.DECOMPRESSED_BYTES_MAX_DEFAULT


def test_no_log_there(log_path):
    for mode in ("a", "r"):
        with pytest.raises(errors.LogNotFoundError) as caught:
            stratalog.Log(log_path, mode=mode)
        assert caught.value.path.startswith(str(log_path))
        assert isinstance(caught.value, FileNotFoundError)


def test_exclusive_creation(log, log_path):
    log.close()
    with pytest.raises(errors.LogExistsError) as caught:
        stratalog.Log(log_path, create=True, exclusive=True)
    assert str(log_path) in str(caught.value)
    assert isinstance(caught.value, FileExistsError)


def test_a_second_writer(log, log_path):
    with pytest.raises(errors.LogLockedError) as caught:
        stratalog.Log(log_path)
    assert str(log_path) in str(caught.value)


def test_offset_out_of_range(log):
    log.append_many([b"x"] * 10)
    log.truncate_prefix(3)
    for call in (
        lambda: log.read(2),
        lambda: log.read(11),
        lambda: log.read(-5),
        lambda: log.get(10),
        lambda: log.get(2),
        lambda: log.truncate_suffix(11),
        lambda: log.truncate_prefix(11),
    ):
        with pytest.raises(errors.OffsetOutOfRangeError) as caught:
            call()
        assert caught.value.offset is not None or "offset" in str(caught.value)
        assert isinstance(caught.value, IndexError)


def test_read_only(log, log_path):
    log.append(b"x")
    with stratalog.Log(log_path, mode="r") as reader:
        for call in (
            lambda: reader.append(b"x"),
            lambda: reader.append_many([b"x"]),
            lambda: reader.truncate_prefix(1),
            lambda: reader.truncate_suffix(0),
            reader.roll,
        ):
            with pytest.raises(errors.ReadOnlyError) as caught:
                call()
            assert str(log_path) in str(caught.value)


def test_closed(log):
    log.append(b"x")
    log.close()
    log.close()
    for call in (
        lambda: log.append(b"x"),
        lambda: log.append(b"x", key=b"k"),
        lambda: log.append_many([b"x"]),
        log.flush,
        log.read,
        log.stats,
        lambda: log.get(0),
        lambda: log.log_end_offset,
        lambda: list(log.follow(timeout=0)),
        log.__enter__,
    ):
        with pytest.raises(errors.LogClosedError) as caught:
            call()
        assert caught.value.path == str(log.path)


def test_too_large(log):
    with pytest.raises(errors.TooLargeError):
        log.append(b"x" * (2 << 20))  # more than a segment
    assert log.append(b"x") == 0


def test_damage_names_its_place(log, log_path):
    log.append_many([b"x" * 100] * 10)
    place = log.append_many([b"y" * 100] * 10)
    log.append_many([b"z" * 100] * 10)
    position = next(log.read_batches(place)).position
    log.close()
    file = log_path / f"{0:020d}.log"
    data = bytearray(file.read_bytes())
    data[position + 100] ^= 1
    file.write_bytes(data)
    with stratalog.Log(log_path, mode="r") as reader:
        with pytest.raises(errors.CorruptLogError) as caught:
            list(reader.read())
        assert caught.value.path == str(file)
        assert caught.value.offset == place
        assert caught.value.position == position
        values = [bytes(record.value)[:1] for record in reader.read(skip_corrupt=True)]
        assert values == [b"x"] * 10 + [b"z"] * 10
        report = reader.verify()
        assert not report.ok
        problem = report.problems[0]
        assert (problem.path, problem.position, problem.kind) == (str(file), position, "data")


def test_damaged_batches_are_refused(log):
    log.append_many([b"x" * 100] * 10)
    raw = bytearray(next(log.read_batches()).data)
    raw[-1] ^= 1
    for damaged in (raw, raw[:50], b"\x00" * 100):
        with pytest.raises(errors.CorruptBatchError):
            log.append_batch(damaged)
    assert log.log_end_offset == 10


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"mode": "w"}, "mode"),
        ({"sync": "sometimes"}, "sync"),
        ({"codec": "rar"}, "rar"),
        ({"mode": "r", "create": True}, "read-only"),
        ({"segment_bytes": 17, "create": True}, "segment_bytes"),
        ({"segment_bytes": 1 << 40, "create": True}, "segment_bytes"),
        ({"sync_interval_ms": 1 << 40, "create": True}, "range"),
    ],
)
def test_options_that_make_no_sense(log_path, arguments, word):
    with pytest.raises(errors.InvalidArgumentError, match=word):
        stratalog.Log(log_path, **arguments)


def test_values_that_make_no_sense(log):
    for call in (
        lambda: log.append("text"),
        lambda: log.append([1, 2, 3]),
        lambda: log.append(5),
        lambda: log.append(b"x", key="text"),
        lambda: log.append_many(b"bytes"),
        lambda: log.append_many("text"),
        lambda: log.append_many([b"x", "text"]),
        lambda: log.append_many([b"x", 5]),
        lambda: log.append_many([b"x", b"y"], keys=[b"k"]),
        lambda: log.append_many([b"x"], timestamps_ms=[1, 2]),
        lambda: log.append_many([b"x"], codec="rar"),
        lambda: log.append_batch("text"),
    ):
        with pytest.raises(errors.InvalidArgumentError):
            call()
    assert log.log_end_offset == 0


def test_the_directory_vanishes(log, log_path):
    log.append(b"x")
    shutil.rmtree(log_path)
    assert log.get(0).value == b"x"  # the map is still there
    with pytest.raises(errors.StratalogError):
        log.roll()
    with pytest.raises(errors.StratalogError):  # no place for the checkpoints
        log.close()
    assert log.closed
