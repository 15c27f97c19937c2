"""Keeping CPython's cyclic collector away from the tree.

The collector walks every container that it knows, again and again: with a million znodes a full
walk stops the server for more than a second, and finds nothing, for znodes make no cycles; they are
freed by their reference counts.  So

    while the tree is brought back      it is off
    afterwards                          what is there is frozen: never walked again
    while the server runs               it looks at what is young, 20,000 objects at a time, about a
                                        millisecond; what has grown old in numbers, new znodes,
                                        is frozen too, once a tick

A cycle that becomes garbage after it was frozen stays.  Connections, the only ones that come and
go, take theirs apart when they close.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

YOUNG_OBJECTS: Final = 20_000
"""New containers after which the young ones are looked at."""

YOUNG_ROUNDS: Final = 50
"""Such looks after which their survivors are looked at as well; freezing comes before."""

OLD_ROUNDS: Final = 1 << 30
"""The same for everything: never."""

FREEZE_ROUNDS: Final = 3
"""Looks after which survivors are frozen: a tree that does not grow never comes so far."""


@contextmanager
def collector_off() -> Iterator[None]:
    """Keep the collector off while much is built that stays; freeze it then."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def begin() -> None:
    """Let the collector look at what is young only, from now on."""
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_ROUNDS, OLD_ROUNDS)


def tend() -> bool:
    """Freeze what has grown old, if it is much; tell whether it was."""
    if gc.get_count()[1] < FREEZE_ROUNDS:
        return False
    gc.freeze()
    return True
