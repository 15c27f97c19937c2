"""Waiting for records and for durability, in threads, event loops and other processes."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

import stratalog
from stratalog import errors


def test_following_a_writer_in_this_process(log):
    log.append(b"0")

    def write():
        for number in range(1, 50):
            time.sleep(0.001)
            log.append(b"%d" % number)

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    for record in log.follow(timeout=10):
        seen.append(int(bytes(record.value)))
        if len(seen) == 50:
            break
    writer.join()
    assert seen == list(range(50))


def test_following_a_writer_in_another_process(log_path, run_child):
    stratalog.Log(log_path, create=True).close()
    with stratalog.Log(log_path, mode="r") as tail:
        child = run_child(
            "import stratalog, sys, time\n"
            "with stratalog.Log(sys.argv[1], segment_bytes=65536) as log:\n"
            "    for number in range(300):\n"
            "        log.append_many([b'%d' % number] * 10)\n"
            "        time.sleep(0.0005)\n",
            log_path,
        )
        records = tail.follow(timeout=10)
        seen = [next(records) for _ in range(3000)]
        assert [record.offset for record in seen] == list(range(3000))
        assert [int(bytes(record.value)) for record in seen] == [n // 10 for n in range(3000)]
        assert child.wait() == 0
        assert list(tail.follow(3000, timeout=0.01)) == []


def test_follow_ends_after_silence(log):
    log.append_many([b"x"] * 3)
    started = time.monotonic()
    assert len(list(log.follow(timeout=0.05))) == 3
    assert time.monotonic() - started >= 0.05
    assert list(log.follow(3, timeout=0)) == []


def test_closing_ends_a_follower(log):
    log.append(b"x")
    records = log.follow()
    next(records)
    threading.Timer(0.02, log.close).start()
    with pytest.raises(errors.LogClosedError):
        next(records)


def test_following_in_an_event_loop(log):
    async def write():
        for number in range(50):
            await asyncio.sleep(0.001)
            log.append(b"%d" % number)

    async def follow():
        writer = asyncio.create_task(write())
        seen = [int(bytes(record.value)) async for record in log.afollow(timeout=0.3)]
        await writer
        return seen

    assert asyncio.run(follow()) == list(range(50))


def test_durable_in_an_event_loop(log):
    async def work():
        offsets = [log.append(b"x") for _ in range(100)]
        await asyncio.gather(*(log.durable(offset) for offset in offsets))
        assert log.durable_offset >= 100
        await log.durable(0)  # long since
        log.append(b"y")
        await log.durable()
        assert log.durable_offset == log.log_end_offset == 101

    asyncio.run(asyncio.wait_for(work(), 30))
    asyncio.run(asyncio.wait_for(work_again(log), 30))  # another loop takes over the eventfd


async def work_again(log):
    offset = log.append(b"z")
    await log.durable(offset)
    assert log.durable_offset > offset


def test_a_cancelled_wait_disturbs_nobody(log):
    async def work():
        offset = log.append(b"x")
        cancelled = asyncio.ensure_future(log.durable(offset + 1000))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        await log.durable(log.append(b"y"))

    asyncio.run(asyncio.wait_for(work(), 30))


def test_closing_settles_those_who_wait(log):
    async def work():
        offset = log.append(b"x")
        reached = asyncio.ensure_future(log.durable(offset))
        never = asyncio.ensure_future(log.durable(offset + 1000))
        await asyncio.sleep(0)
        await asyncio.to_thread(log.close)
        await reached
        with pytest.raises(errors.StratalogError):
            await never

    asyncio.run(asyncio.wait_for(work(), 30))


def test_no_descriptor_is_left_behind(log_path):
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    async def work(log):
        await log.durable(log.append(b"x"))

    stratalog.Log(log_path, create=True).close()
    before = descriptors()
    for _ in range(5):
        with stratalog.Log(log_path) as log:
            asyncio.run(work(log))
            asyncio.run(work(log))
            list(log.read())
    assert descriptors() == before
