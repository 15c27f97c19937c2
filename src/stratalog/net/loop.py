"""The event loop: uvloop where it is installed, asyncio's own elsewhere; both serve alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a new event loop; return what it returns."""
    with asyncio.Runner(loop_factory=_factory()) as runner:
        return runner.run(main)


async def off_loop(work: Callable[..., None], *arguments: object) -> None:
    """Let a thread do what waits for the disk; who is cancelled waits for it still."""
    job = asyncio.get_running_loop().run_in_executor(None, work, *arguments)
    try:
        await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.wait([job])
        raise


def loop_name() -> str:
    """Return which loop ``run`` takes: ``"uvloop"`` or ``"asyncio"``."""
    return "asyncio" if _factory() is None else "uvloop"


def _factory() -> Any:
    try:
        import uvloop  # noqa: PLC0415  (an optional package)
    except ImportError:
        return None
    return uvloop.new_event_loop
