"""Following: records as they come, from a writer in this process or another one.

    read what is there --> nothing new --> sleep 0.05 ms, then half as long again each time
            ^                                    up to 5 ms
            `------ something new: back to the shortest sleep ------'

A look at a log that has nothing new costs under a microsecond (the writer publishes its end in a
shared page), so looking often while records flow and seldom while they do not keeps both the delay
and the idle load low: 5 ms at worst, 200 looks a second.  An interrupt or a cancellation ends the
sleep at once.

Left to others: how a reader sees a writer's progress (control.c).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from stratalog import config
from stratalog.log.cursor import Cursor
from stratalog.log.records import Record


class _Patience:
    """How long to sleep next, and whether to give up.

    Args:
        timeout: Seconds without a record after which to end; None: never.
    """

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self.restart()

    def restart(self) -> None:
        """Begin anew: something came."""
        self._sleep_ms = config.FOLLOW_SLEEP_MS_FIRST
        self._deadline = None if self._timeout is None else time.monotonic() + self._timeout

    def next_sleep(self) -> float | None:
        """Return seconds to sleep, or None when patience is at its end."""
        seconds = self._sleep_ms / 1000
        self._sleep_ms = min(
            self._sleep_ms * config.FOLLOW_SLEEP_GROWTH, config.FOLLOW_SLEEP_MS_MAX
        )
        if self._deadline is None:
            return seconds
        left = self._deadline - time.monotonic()
        return None if left <= 0 else min(seconds, left)


def follow(cursor: Cursor, timeout: float | None) -> Iterator[Record]:
    """Yield records for ever.

    Args:
        cursor: Where to begin, without an end.
        timeout: Seconds without a record after which the iterator ends; None: never.

    Raises:
        LogClosedError: The log was closed.
    """
    patience = _Patience(timeout)
    while True:
        chunk = cursor.read_ahead()
        if chunk is not None:
            yield from chunk
            patience.restart()
            continue
        seconds = patience.next_sleep()
        if seconds is None:
            return
        time.sleep(seconds)


async def afollow(cursor: Cursor, timeout: float | None) -> AsyncIterator[Record]:
    """Yield records for ever, sleeping in the event loop; see :func:`follow`."""
    patience = _Patience(timeout)
    while True:
        chunk = cursor.read_ahead()
        if chunk is not None:
            for record in chunk:
                yield record
            patience.restart()
            continue
        seconds = patience.next_sleep()
        if seconds is None:
            return
        await asyncio.sleep(seconds)
