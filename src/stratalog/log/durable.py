"""Awaiting durability: asyncio coroutines that sleep until the flusher has synced far enough.

    coroutine                       event loop                     flusher thread (C)
       |-- wait(end_offset) ---------->| sl_log_request_durable ------->|
       |   future parked               | add_reader(eventfd)            | fdatasync
       |                               |<------- eventfd += 1 ----------| durable_offset moves
       |<-- future done -- durable_offset reaches end_offset            |

No thread of Python waits, and any number of coroutines share one eventfd, so that a thousand
acknowledgements cost one wake-up and one ``fdatasync``.  A log has one eventfd for each event loop
that waits on it, nearly always a single one.  It stays open until the log is closed, since a
request that nobody awaits any more still writes to it; the next loop takes over that of a dead one.

Left to others: when to sync (sync.c).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from typing import TypeAlias

from stratalog.errors import LogClosedError, StratalogError

Request: TypeAlias = Callable[[int, int], None]
"""``(end_offset, event_fd)``."""

State: TypeAlias = Callable[[], tuple[int, StratalogError | None]]
"""``() -> (durable_offset, error)``."""


class _LoopWaiters:
    """The waiting coroutines of one event loop; touched by that loop's thread only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, event_fd: int) -> None:
        self.loop = loop
        self.event_fd = event_fd
        self.waiting: list[tuple[int, asyncio.Future[None]]] = []

    def settle(self, durable_offset: int, error: StratalogError | None) -> None:
        """Finish every future that ``durable_offset`` reaches, or all of them with ``error``."""
        remaining = []
        for end_offset, future in self.waiting:
            if future.done():
                continue
            if end_offset <= durable_offset:
                future.set_result(None)
            elif error is not None:
                future.set_exception(error)
            else:
                remaining.append((end_offset, future))
        self.waiting = remaining


class DurableWaiters:
    """Everything that waits for one log.  It knows the log only while somebody waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loops: list[_LoopWaiters] = []
        self._closed = False

    def _waiters_of(self, loop: asyncio.AbstractEventLoop) -> _LoopWaiters:
        with self._lock:
            if self._closed:
                raise LogClosedError("the log was closed")
            for waiters in self._loops:
                if waiters.loop is loop:
                    return waiters
            for index, waiters in enumerate(self._loops):
                if waiters.loop.is_closed():
                    self._loops[index] = _LoopWaiters(loop, waiters.event_fd)
                    return self._loops[index]
            event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._loops.append(_LoopWaiters(loop, event_fd))
            return self._loops[-1]

    async def wait(self, end_offset: int, request: Request, state: State) -> None:
        """Return once every offset below ``end_offset`` is durable.

        Args:
            end_offset: Exclusive.
            request: Asks the flusher; raises if it cannot.
            state: Tells how far it got; its error ends all waiting.

        Raises:
            StratalogError: The log was poisoned or closed first.
        """
        durable_offset, error = state()
        if end_offset <= durable_offset:
            return
        if error is not None:
            raise error
        loop = asyncio.get_running_loop()
        waiters = self._waiters_of(loop)
        future: asyncio.Future[None] = loop.create_future()
        if not waiters.waiting:
            loop.add_reader(waiters.event_fd, self._on_event, waiters, state)
        waiters.waiting.append((end_offset, future))
        try:
            request(end_offset, waiters.event_fd)
            await future
        finally:
            waiters.waiting = [entry for entry in waiters.waiting if entry[1] is not future]
            if not waiters.waiting and not self._closed:
                loop.remove_reader(waiters.event_fd)

    def _on_event(self, waiters: _LoopWaiters, state: State) -> None:
        with contextlib.suppress(BlockingIOError):  # none if another callback took it
            os.eventfd_read(waiters.event_fd)
        with contextlib.suppress(LogClosedError):  # then ``close`` settles everybody, and knows
            waiters.settle(*state())

    def close(self, durable_offset: int, error: StratalogError) -> None:
        """Settle everybody once the log is closed, from any thread.

        Args:
            durable_offset: What is durable now that the log was flushed and closed.
            error: For those who waited for more than that.
        """
        with self._lock:
            loops, self._loops = self._loops, []
            self._closed = True
        for waiters in loops:
            try:
                waiters.loop.call_soon_threadsafe(_settle_last, waiters, durable_offset, error)
            except RuntimeError:  # the loop is closed, and nobody waits in it any more
                os.close(waiters.event_fd)


def _settle_last(waiters: _LoopWaiters, durable_offset: int, error: StratalogError) -> None:
    """End of one loop's waiting, in its own thread: the eventfd is nobody's any more."""
    waiters.loop.remove_reader(waiters.event_fd)
    os.close(waiters.event_fd)
    waiters.settle(durable_offset, error)
