"""Threads that share a handle, calls overtaken by close, and forked children."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import stratalog
from stratalog import errors


def test_appends_of_many_threads_get_every_offset_once(log):
    def work(number):
        offsets = [log.append(b"%d" % number) for _ in range(500)]
        first = log.append_many([b"%d" % number] * 500, keys=[b"k"] * 500)
        keyed = [log.append(b"%d" % number, key=b"key%d" % number) for _ in range(200)]
        return number, [*offsets, *range(first, first + 500), *keyed]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    owners = {offset: number for number, offsets in results for offset in offsets}
    assert sorted(owners) == list(range(8 * 1200))
    for record in log.read():
        assert int(bytes(record.value)) == owners[record.offset]
        assert record.key in (None, b"k", b"key%d" % owners[record.offset])


def test_readers_beside_an_appender_see_a_prefix(log):
    stop = threading.Event()

    def read():
        rounds = 0
        while not stop.is_set() or not rounds:
            values = [int(bytes(value)) for value in log.read_values()]
            assert values == list(range(len(values)))
            rounds += 1
        return rounds

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for number in range(0, 20_000, 10):
            log.append_many([b"%d" % i for i in range(number, number + 10)])
        stop.set()
        assert all(reader.result() for reader in readers)


def test_close_waits_for_calls_and_later_ones_are_refused(log_path):
    for _ in range(20):
        log = stratalog.Log(log_path, create=True)
        started = threading.Barrier(5)

        def work(log=log, started=started):
            started.wait()
            count = 0
            try:
                while True:
                    log.append(b"x" * 100)
                    log.append(b"y", key=b"k")
                    sum(1 for _ in log.read(max(0, log.log_end_offset - 100)))
                    count += 1
            except errors.LogClosedError:
                return count

        with ThreadPoolExecutor(4) as pool:
            workers = [pool.submit(work) for _ in range(4)]
            started.wait()
            time.sleep(0.005)
            log.close()
            assert log.closed
            stratalog.Log(log_path).close()  # the lock is free as soon as close returns
            for worker in workers:
                worker.result()
    with stratalog.Log(log_path) as log:
        assert log.verify().ok


def test_an_append_that_is_durable_when_it_returns_shares_its_sync(log_path):
    with stratalog.Log(log_path, create=True, sync="always") as log:

        def work(_):
            for _ in range(25):
                offset = log.append(b"x" * 100)
                assert log.durable_offset > offset

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert log.log_end_offset == 200
        assert 1 <= log.stats().sync_count <= 200


def test_a_forked_child_is_refused_and_can_open_for_itself(log, log_path):
    log.append_many([b"parent"] * 1000)
    records = log.read()
    next(records)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for call in (lambda: log.append(b"child"), log.flush, lambda: list(log.read())):
                try:
                    call()
                except errors.ForkedError:
                    continue
                os._exit(2)
            log.close()
            with stratalog.Log(log_path, mode="r") as reader:
                code = 0 if len(list(reader.read())) == 1000 else 3
            try:
                stratalog.Log(log_path)
            except errors.LogLockedError:
                os._exit(code)
            os._exit(4)
        finally:
            os._exit(5)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert log.append(b"parent") == 1000
    assert sum(1 for _ in records) == 999
    assert log.verify().ok


def test_a_child_killed_in_the_middle_leaves_what_was_appended(log_path, run_child):
    child = run_child(
        "import stratalog, sys\n"
        "log = stratalog.Log(sys.argv[1], create=True)\n"
        "while True:\n"
        "    print(log.append(b'x' * 100), flush=True)\n",
        log_path,
    )
    lines = [child.stdout.readline() for _ in range(1000)]
    child.kill()
    rest = child.stdout.read().split("\n")[:-1]
    last = int(rest[-1]) if rest else int(lines[-1])
    with stratalog.Log(log_path) as log:
        assert log.log_end_offset >= last + 1
        assert all(value == b"x" * 100 for value in log.read_values())
        assert log.verify().ok


def test_a_timeout_of_waiting(log):
    offset = log.append(b"x")
    with pytest.raises(errors.StratalogError):
        log.wait_durable(offset + 10, timeout=0.05)
    log.wait_durable(offset)


def test_a_call_that_does_not_return_does_not_hang_close(log, log_path, monkeypatch):
    monkeypatch.setattr("stratalog.config.CLOSE_WAIT_MS_MAX", 50)
    inside, leave = threading.Event(), threading.Event()

    def stay():
        with log._entered():
            inside.set()
            leave.wait(10)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(stay)
        inside.wait(10)
        with pytest.raises(errors.WaitTimeoutError):
            log.close()
        assert log.closed
        with pytest.raises(errors.LogLockedError):
            stratalog.Log(log_path)
        leave.set()
    stratalog.Log(log_path).close()  # released by the one who left last
