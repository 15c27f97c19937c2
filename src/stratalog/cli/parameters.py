"""What a person types for a size or a time, and the numbers it stands for.

    size   1048576   1_048_576   1024KiB   1MiB   1M      binary: KiB MiB GiB, and K M G alone
                                 1048.576KB               decimal: KB MB GB
    time   1767225600000                                  milliseconds since 1970-01-01 UTC
           2026-01-01   2026-01-01T00:00:00Z   2026-01-01T01:00:00+01:00

A time without a zone is UTC, because every time this program prints is UTC: what was printed can
be typed back. Both directions of each notation live here, so that they cannot drift apart.

Left to others: which command takes which (``log_commands``).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import click

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_SIZE: Final = re.compile(r"(\d[\d_]*(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_UNIT_BYTES: Final = {
    "": 1,
    "b": 1,
    "k": 1 << 10,
    "kib": 1 << 10,
    "kb": 10**3,
    "m": 1 << 20,
    "mib": 1 << 20,
    "mb": 10**6,
    "g": 1 << 30,
    "gib": 1 << 30,
    "gb": 10**9,
}


def byte_size(value: str) -> int:
    """A number of bytes, with or without a unit; for ``click.option(type=...)``.

    Raises:
        click.BadParameter: ``value`` is no size (the user can act).
    """
    match = _SIZE.fullmatch(value.strip())
    unit_bytes = _UNIT_BYTES.get(match.group(2).lower()) if match else None
    if match is None or unit_bytes is None:
        raise click.BadParameter(f"{value!r} is no size; write bytes, or 64KiB, 64MiB, 1GiB.")
    return round(float(match.group(1).replace("_", "")) * unit_bytes)


def timestamp(value: str) -> int:
    """A moment, in milliseconds since 1970-01-01 UTC; for ``click.option(type=...)``.

    Eight digits are a date (``20260131``), as ISO 8601 has it; any other whole number is
    milliseconds.

    Raises:
        click.BadParameter: ``value`` is no time (the user can act).
    """
    text = value.strip()
    if re.fullmatch(r"-?\d{1,18}", text) and not re.fullmatch(r"\d{8}", text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no time; write milliseconds since 1970, or 2026-01-31T12:00:00Z."
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(milliseconds=1)


def format_bytes(count_bytes: float) -> str:
    """``count_bytes`` for people: three digits or so, binary units."""
    size = float(count_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def format_timestamp(timestamp_ms: int) -> str:
    """``timestamp_ms`` as ISO 8601 in UTC; ``-`` for "none" and for what no calendar holds."""
    if timestamp_ms < 0:
        return "-"
    try:
        moment = EPOCH + timedelta(milliseconds=timestamp_ms)
    except OverflowError:
        return str(timestamp_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plural(count: int, noun: str) -> str:
    """``1 batch``, ``2,000 batches``."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}{'es' if noun.endswith(('ch', 's', 'x')) else 's'}"


def describe_bytes(count_bytes: int) -> str:
    """Bytes twice: for people, and exactly."""
    if count_bytes < 1024:
        return plural(count_bytes, "byte")
    return f"{format_bytes(count_bytes)} ({count_bytes:,} bytes)"


def per_second(count: float, seconds: float) -> float:
    """``count`` per second; a step too short to time counts as a millisecond."""
    return count / max(seconds, 0.001)
