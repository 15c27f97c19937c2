"""The short ways in: what they take, what they leave to the general way, and that both agree.

``append(bytes)`` goes through a builtin (_native_append.c), ``append_many`` of bytes through a look
into the tuple (_native_values.c). Whatever is not exactly ``bytes`` or None takes the general path;
nobody can tell from the log which way a record came.
"""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

import stratalog


class Text(bytes):
    """A subclass: its bytes are bytes, but C must not assume so."""


KINDS = [
    b"plain",
    Text(b"subclass"),
    bytearray(b"bytearray"),
    memoryview(b"xmemoryview")[1:],
    None,
    b"",
]


def as_bytes(value):
    return None if value is None else bytes(value)


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 1000])
@pytest.mark.parametrize("container", [list, tuple, iter])
def test_append_many_takes_any_mixture(tmp_path, count, container):
    for kinds in ([b"only bytes"], [b"a", None], KINDS):
        values = [kinds[i % len(kinds)] for i in range(count)]
        with stratalog.Log(tmp_path / f"{len(kinds)}", create=True) as log:
            assert log.append_many(container(values)) == 0
            assert log.append_many(values, timestamps_ms=7) == count
            assert log.append_many(values, codec="lz4", atomic=True) == 2 * count
            read = list(log.read(copy=True))
        assert [record.value for record in read] == [as_bytes(v) for v in values] * 3
        assert {record.timestamp_ms for record in read[count : 2 * count]} == {7}


@pytest.mark.parametrize("value", KINDS)
def test_append_takes_each_kind(tmp_path, value):
    for codec in ("none", "zstd"):
        with stratalog.Log(tmp_path / codec, create=True, codec=codec) as log:
            assert log.append(value) == 0
            assert log.append(value, key=b"k") == 1
            assert [record.value for record in log.read(copy=True)] == [as_bytes(value)] * 2


@pytest.mark.parametrize("bad", ["text", 7, [b"nested"], object()])
def test_what_is_no_bytes_is_refused_and_nothing_happens(tmp_path, bad):
    with stratalog.Log(tmp_path, create=True) as log:
        with pytest.raises(stratalog.errors.InvalidArgumentError):
            log.append(bad)
        with pytest.raises(stratalog.errors.InvalidArgumentError):
            log.append_many([b"good", bad])
        assert log.log_end_offset == 0


def test_errors_come_through(tmp_path):
    with stratalog.Log(tmp_path, create=True, segment_bytes=4096) as log:
        with pytest.raises(stratalog.errors.TooLargeError):
            log.append(b"x" * 5000)
        with pytest.raises(stratalog.errors.TooLargeError):
            log.append_many([b"x" * 5000])
    for call in (lambda: log.append(b"x"), lambda: log.append_many([b"x"])):
        with pytest.raises(stratalog.errors.LogClosedError):
            call()
    with stratalog.Log(tmp_path, mode="r") as reader:
        with pytest.raises(stratalog.errors.ReadOnlyError):
            reader.append(b"x")
        with pytest.raises(stratalog.errors.ReadOnlyError):
            reader.append_many([b"x"])


def test_the_builtin_does_not_outlive_close(tmp_path):
    log = stratalog.Log(tmp_path, create=True)
    seen = weakref.ref(log)
    log.append(b"x")
    log.close()
    with stratalog.Log(tmp_path) as again:  # the lock is free
        assert again.append(b"y") == 1
    del log
    gc.collect()
    assert seen() is None


def test_a_list_may_change_while_it_is_appended(tmp_path):
    """C looks at a tuple of its own: another thread may do with the list what it likes."""
    values = [b"%06d" % i for i in range(5000)]
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            values[:] = [b"%06d" % i for i in range(5000)]

    thread = threading.Thread(target=churn)
    with stratalog.Log(tmp_path, create=True) as log:
        thread.start()
        try:
            for _ in range(50):
                log.append_many(values)
        finally:
            stop.set()
            thread.join()
        for i, value in enumerate(log.read_values(copy=True)):
            assert value == b"%06d" % (i % 5000)
