"""Sizes and times: every notation, and that what is printed can be typed."""

from __future__ import annotations

import click
import pytest

from stratalog.cli import parameters


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1_048_576", 1 << 20),
        ("64KiB", 64 << 10),
        ("64 kib", 64 << 10),
        ("64K", 64 << 10),
        ("64kB", 64_000),
        ("1.5MiB", 3 << 19),
        ("1GiB", 1 << 30),
        ("2GB", 2 * 10**9),
    ],
)
def test_sizes(text, size_bytes):
    assert parameters.byte_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "MiB", "-1", "64 parsecs", "1e6", "1 2"])
def test_no_sizes(text):
    with pytest.raises(click.BadParameter, match="is no size"):
        parameters.byte_size(text)


@pytest.mark.parametrize(
    ("text", "timestamp_ms"),
    [
        ("0", 0),
        ("1700000000000", 1_700_000_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T22:13:20", 1_700_000_000_000),
        ("2023-11-14 23:13:20+01:00", 1_700_000_000_000),
        ("2023-11-14T22:13:20.123Z", 1_700_000_000_123),
        ("20231114", 1_699_920_000_000),
    ],
)
def test_times(text, timestamp_ms):
    assert parameters.timestamp(text) == timestamp_ms


@pytest.mark.parametrize("text", ["", "now", "2023-13-01", "12:00"])
def test_no_times(text):
    with pytest.raises(click.BadParameter, match="is no time"):
        parameters.timestamp(text)


@pytest.mark.parametrize("timestamp_ms", [0, 1, 1_700_000_000_123, 253_402_300_799_999])
def test_what_is_printed_can_be_typed(timestamp_ms):
    assert parameters.timestamp(parameters.format_timestamp(timestamp_ms)) == timestamp_ms


def test_times_no_calendar_holds():
    assert parameters.format_timestamp(-1) == "-"
    assert parameters.format_timestamp(1 << 62) == str(1 << 62)


def test_counts_of_bytes():
    assert parameters.format_bytes(1023) == "1,023 B"
    assert parameters.format_bytes(64 << 20) == "64.0 MiB"
    assert parameters.format_bytes(5 << 40) == "5.0 TiB"
    assert parameters.plural(1, "batch") == "1 batch"
    assert parameters.plural(2000, "batch") == "2,000 batches"
