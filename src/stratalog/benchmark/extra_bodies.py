"""What only our Python interface is asked: codecs, many appenders, seeking by time, the first pass.

Bodies for child.py, like those of the subjects: a fresh process, an empty directory, a Stopwatch
around the workload alone. No peer is compared on these, so nobody else checks their checksums: each
body compares what it reads back with what it put in, and raises where they differ.

    codec_*          append_many of 1 KiB of text a record; then one scan of all, decompressed
    appenders_*      threads that append one record each, every one durable when the call returns
    coroutines_64    as many coroutines: append, then ``await log.durable(offset)``
    seek_time        offset_for_timestamp of random timestamps, a record a millisecond
    first_pass       read_values of a log just opened: pages not mapped, checksums not yet looked at

The payload of the other workloads cannot be compressed, on purpose. A codec gets lines of text
instead: JSON of a few fields with words from a small vocabulary, drawn from the seed, which shrink
as a log of events shrinks.

What it leaves to others: sizes, repetition, tables (extra.py).
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

import stratalog
from stratalog.benchmark.child import Outcome, Stopwatch
from stratalog.benchmark.model import ChecksumMismatchError, Workload
from stratalog.benchmark.payload import Payload

__all__ = ["CODECS", "text_lines"]

CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
FIRST_TIMESTAMP_MS: Final = 1_700_000_000_000
TEXT_LINES: Final = 512


def _same(found: object, expected: object) -> None:
    if found != expected:
        raise ChecksumMismatchError("the records read back are not those appended")


# ---- codecs --------------------------------------------------------------------------------------


def text_lines(seed: int, record_bytes: int) -> list[bytes]:
    """Return lines of JSON of exactly ``record_bytes`` each, the same for a seed."""
    draw = random.Random(f"stratalog text {seed}")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(3, 9))) for _ in range(512)]
    lines = []
    for number in range(TEXT_LINES):
        event = {"id": number, "user": draw.randrange(1 << 40), "kind": draw.choice(words)}
        text = json.dumps(event | {"text": " ".join(draw.choices(words, k=record_bytes // 4))})
        lines.append(text.encode()[: record_bytes - 2].ljust(record_bytes - 2) + b'"}')
    return lines


def _codec(codec: str, workload: Workload, directory: Path) -> Outcome:
    lines = text_lines(workload.seed, workload.record_bytes)
    size = workload.batch_records
    groups = [
        [lines[(first + i) % len(lines)] for i in range(size)]
        for first in range(0, len(lines) * size, size)
    ]
    count = workload.records // size
    with stratalog.Log(directory / "log", create=True, codec=codec) as log:
        with Stopwatch() as watch:
            for number in range(count):
                log.append_many(groups[number % len(groups)])
        log_bytes = log.stats().log_bytes
        total_bytes = 0
        with Stopwatch() as scan:
            for value in log.read_values():
                total_bytes += len(value)  # type: ignore[arg-type]
        _same(total_bytes, workload.measured_bytes)
        for number, value in enumerate(log.read_values()):
            _same(value, lines[number % len(lines)])
        return Outcome(
            watch,
            log.log_end_offset,
            total_bytes,
            0,
            {"log_bytes": log_bytes, "scan_seconds": scan.seconds, "scan_cpu": scan.cpu_seconds},
        )


def codec_none(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    del payload
    return _codec("none", workload, directory)


def codec_gzip(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    del payload
    return _codec("gzip", workload, directory)


def codec_snappy(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    del payload
    return _codec("snappy", workload, directory)


def codec_lz4(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    del payload
    return _codec("lz4", workload, directory)


def codec_zstd(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    del payload
    return _codec("zstd", workload, directory)


# ---- many appenders ------------------------------------------------------------------------------


def _latencies(latencies_ns: list[int]) -> dict[str, float]:
    ordered = sorted(latencies_ns)
    return {
        f"p{name}_us": ordered[len(ordered) * share // 1000] / 1e3
        for name, share in (("50", 500), ("99", 990), ("999", 999))
    }


def _appenders(count: int, workload: Workload, directory: Path, payload: Payload) -> Outcome:
    values = list(payload.stream())
    latencies_ns: list[int] = []
    with stratalog.Log(directory / "log", create=True, sync="always") as log:
        syncs = log.stats().sync_count
        ready = threading.Barrier(count + 1)
        failures: list[BaseException] = []

        def work(mine: list[bytes]) -> None:
            times_ns = []
            ready.wait()
            try:
                for value in mine:
                    start_ns = time.perf_counter_ns()
                    log.append(value)
                    times_ns.append(time.perf_counter_ns() - start_ns)
            except stratalog.StratalogError as error:
                failures.append(error)
            latencies_ns.extend(times_ns)

        threads = [threading.Thread(target=work, args=(values[i::count],)) for i in range(count)]
        for thread in threads:
            thread.start()
        with Stopwatch() as watch:
            ready.wait()
            for thread in threads:
                thread.join()
        for failure in failures:
            raise failure
        syncs = log.stats().sync_count - syncs
        _same(log.durable_offset, workload.records)
        _same(Counter(log.read_values(copy=True)), Counter(values))
    extra = {"syncs": syncs, **_latencies(latencies_ns)}
    return Outcome(watch, workload.records, workload.measured_bytes, 0, extra)


def appenders_8(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    return _appenders(8, workload, directory, payload)


def appenders_64(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    return _appenders(64, workload, directory, payload)


def coroutines_64(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    values = list(payload.stream())
    latencies_ns: list[int] = []

    async def appender(log: stratalog.Log, mine: list[bytes]) -> None:
        for value in mine:
            start_ns = time.perf_counter_ns()
            await log.durable(log.append(value))
            latencies_ns.append(time.perf_counter_ns() - start_ns)

    async def all_of_them(log: stratalog.Log) -> None:
        await asyncio.gather(*(appender(log, values[i::64]) for i in range(64)))

    with stratalog.Log(directory / "log", create=True) as log:
        syncs = log.stats().sync_count
        with Stopwatch() as watch:
            asyncio.run(all_of_them(log))
        syncs = log.stats().sync_count - syncs
        _same(log.durable_offset, workload.records)
        _same(Counter(log.read_values(copy=True)), Counter(values))
    extra = {"syncs": syncs, **_latencies(latencies_ns)}
    return Outcome(watch, workload.records, workload.measured_bytes, 0, extra)


# ---- time, and a log that nobody has read yet ----------------------------------------------------


def seek_time(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    with stratalog.Log(directory / "log", create=True) as log:
        first = 0
        for group in payload.groups():
            start_ms = FIRST_TIMESTAMP_MS + first
            log.append_many(group, timestamps_ms=range(start_ms, start_ms + len(group)))
            first += len(group)
    with stratalog.Log(directory / "log", mode="r") as log:
        seek = log.offset_for_timestamp
        for offset in payload.lookups:  # untimed, and checked
            _same(seek(FIRST_TIMESTAMP_MS + offset), offset)
        with Stopwatch() as watch:
            for offset in payload.lookups:
                seek(FIRST_TIMESTAMP_MS + offset)
    return Outcome(watch, workload.measured_records, workload.measured_bytes, 0)


def first_pass(workload: Workload, directory: Path, payload: Payload) -> Outcome:
    with stratalog.Log(directory / "log", create=True) as log:
        for group in payload.groups():
            log.append_many(group)
    total_bytes = records = 0
    with stratalog.Log(directory / "log", mode="r") as log:
        with Stopwatch() as watch:
            for value in log.read_values():
                total_bytes += len(value)  # type: ignore[arg-type]
                records += 1
        _same(records, workload.records)
        _same(b"".join(log.read_values(copy=True)), b"".join(payload.stream()))  # type: ignore[arg-type]
    return Outcome(watch, records, total_bytes, 0)
