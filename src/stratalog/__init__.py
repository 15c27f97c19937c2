r"""stratalog: a durable log that you install with pip, in Kafka's own files.

    import stratalog

    with stratalog.Log("events", create=True) as log:
        offset = log.append(b"value", key=b"k")            # appended: survives this process
        first = log.append_many([b"a", b"b", b"c"], codec="lz4")
        log.flush()                                        # durable: survives power loss
        for record in log.read(first):
            print(record.offset, bytes(record.value))      # zero-copy: a memoryview of the map

One C engine with mapped segments, and floors of Python above it.  Arrows only go down;
``tests/test_house.py`` keeps it so.

    F5  cli/  console/  benchmark/   people: commands, pages, figures
    F4  server/  inspect/            where a pure machine meets a socket or a disk; offline readers
         |        \
    F3  net/       |                 event loop, frames, TLS: bytes, no protocols
         |         |
    F2  storage/  core/              disk adapters | pure machines: side by side, no arrow between
         |         |
    F1  log/      wire/              the embedded log | bytes <-> frozen dataclasses
         |
    F0  native/                      C: bytes, offsets, positions   (errors, config: seen by all)

Reading order: ``native/include/stratalog.h`` for the words and the promises, ``log/log.py`` for
the Python face of them, ``errors.py`` for what can go wrong, ``config.py`` for every limit; then
``log/cursor.py`` and ``native/src/batch.c`` for how a record travels.
"""

from typing import TYPE_CHECKING, Any

from stratalog import errors
from stratalog.errors import StratalogError

if TYPE_CHECKING:
    from stratalog.log import Batch, Log, LogStats, Problem, Record, SegmentInfo, VerifyReport

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Log",
    "LogStats",
    "Problem",
    "Record",
    "SegmentInfo",
    "StratalogError",
    "VerifyReport",
    "__version__",
    "errors",
]


def __getattr__(name: str) -> Any:
    """Load the log once somebody asks for it: a server starts without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from stratalog import log  # noqa: PLC0415

    return getattr(log, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
