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

from stratalog.log.batch import Batch
from stratalog.log.info import LogStats, Problem, SegmentInfo, VerifyReport
from stratalog.log.log import Log
from stratalog.log.records import Record

__all__ = ["Batch", "Log", "LogStats", "Problem", "Record", "SegmentInfo", "VerifyReport"]
