"""Options of a log on their way to C: names and None become the numbers of ``sl_options``.

    mode "r"                     -> SL_OPEN_READ_ONLY        sync "none"      -> SL_SYNC_NONE
    create, exclusive, repair    -> SL_OPEN_*                     "interval"  -> SL_SYNC_INTERVAL
    everything else              -> the field of the same name    "always"    -> SL_SYNC_ALWAYS

Left to others: bounds of the numbers (the engine), what they mean (``Log``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from stratalog.errors import InvalidArgumentError
from stratalog.log._binding import ffi, lib

_SYNCS: Final[dict[str, int]] = {
    "none": lib.SL_SYNC_NONE,
    "interval": lib.SL_SYNC_INTERVAL,
    "always": lib.SL_SYNC_ALWAYS,
}


def make_options(
    *, mode: str, create: bool, exclusive: bool, repair: bool, sync: str, **numbers: int
) -> Any:
    """Return an ``sl_options *``.

    Args:
        mode: "a" or "r".
        create: See ``Log``.
        exclusive: See ``Log``.
        repair: See ``Log``.
        sync: "none", "interval" or "always".
        **numbers: Fields of ``sl_options`` by name; the others keep the engine's defaults.

    Raises:
        InvalidArgumentError: A word is none of ours, words contradict each other, or a number
            does not fit its field.
    """
    if mode not in {"a", "r"}:
        raise InvalidArgumentError(f"mode {mode!r} is neither 'a' nor 'r'")
    if sync not in _SYNCS:
        raise InvalidArgumentError(f"sync {sync!r} is none of {', '.join(_SYNCS)}")
    if mode == "r" and (create or exclusive or repair):
        raise InvalidArgumentError("a read-only handle can neither create nor repair a log")
    if exclusive and not create:
        raise InvalidArgumentError("exclusive=True belongs to create=True")
    made = ffi.new("sl_options *")
    lib.sl_options_default(made)
    made.flags = (
        (lib.SL_OPEN_READ_ONLY if mode == "r" else 0)
        | (lib.SL_OPEN_CREATE if create else 0)
        | (lib.SL_OPEN_EXCLUSIVE if exclusive else 0)
        | (lib.SL_OPEN_REPAIR if repair else 0)
    )
    made.sync = _SYNCS[sync]
    for name, number in numbers.items():
        try:
            setattr(made, name, number)
        except (OverflowError, TypeError) as error:
            raise InvalidArgumentError(f"{name}={number!r} is out of range") from error
    return made


def directory_bytes(path: Path) -> bytes:
    """Return a path as C takes it.

    Raises:
        InvalidArgumentError: It holds a NUL character, at which C would take it for shorter.
    """
    directory = os.fsencode(path)
    if b"\0" in directory:
        raise InvalidArgumentError("a path cannot hold a NUL character")
    return directory
