"""A request refused: the error code that its reply carries.

It ends the handling of one request and never leaves ``core``; what a caller of the library meets
stands in ``stratalog.errors``.
"""

from __future__ import annotations

from stratalog.wire.zookeeper.records import ErrorCode


class Refused(Exception):  # noqa: N818  (an answer, not an error of ours)
    """The request is answered with ``code``."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.name)
        self.code = code
