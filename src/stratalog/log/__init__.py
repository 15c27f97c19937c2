"""Floor F1: the embedded log's Python face over the C engine.

    log.py ------- Log, what users hold
      |-- handle.py      opening, closing, and who may still be inside
      |-- options.py     keyword arguments -> sl_options
      |-- request.py     records on their way in: values -> columns of one C call
      |-- cursor.py      records on their way out: columns -> records, and who owns the memory
      |-- batch.py       one batch as on disk          columns.py   Arrow
      |-- follow.py      tailing                       durable.py   awaiting a sync
      |-- records.py     Record, headers, varints      info.py      statistics, reports
      |-- codecs.py      gzip, snappy, lz4, zstd, called by C
      `-- _binding.py    the only importer of the extension: errors

Left to others: bytes, offsets, positions (``native/``); protocols (``wire/``).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stratalog.log.batch import Batch
    from stratalog.log.info import LogStats, Problem, SegmentInfo, VerifyReport
    from stratalog.log.log import Log
    from stratalog.log.records import Record

__all__ = ["Batch", "Log", "LogStats", "Problem", "Record", "SegmentInfo", "VerifyReport"]

_HOMES: Final = {
    "Batch": "batch", "Log": "log", "LogStats": "info", "Problem": "info", "Record": "records",
    "SegmentInfo": "info", "VerifyReport": "info",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a part once somebody asks for it."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
