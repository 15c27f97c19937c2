# A connection's bytes on the short way, in C: see line.c.

from typing import Any

from stratalog.core.zookeeper.standalone import Client, Standalone
from stratalog.core.zookeeper.statistics import Sizes, Spread, Traffic
from stratalog.errors import StratalogError

class Hub:
    machine: Standalone
    failure: StratalogError | OSError | None
    reply_sizes: Sizes
    waiting_bytes: int
    _by_client: dict[Client, Any]
    _outstanding_bytes_max: int
    _reads_seen: int
    _frame_bytes_max: int
    _answer_bytes_max: int
    _pending_max: int
    _slow_max: int
    _turn_began_ms: int
    _heard: int
    _settling: bool
    _turning: bool
    def speak(self, asked_ms: int, /) -> None: ...
    def open_poller(self) -> int: ...
    def turn(self) -> None: ...
    def watch_log(self, descriptor: int, /) -> None: ...
    def unwatch_log(self, descriptor: int, /) -> None: ...
    def close_poller(self) -> None: ...

class Line:
    client: Client | None
    traffic: Traffic
    latency: Spread
    last_header: bytes
    last_own_header: bytes
    last_latency_ms: int
    answered_at_ms: int
    last_zxid: int
    fd: int
    _server: Any
    _asked_at_ms: int
    _waiting_bytes: int
    _plain: bool
    _held: bool
    _stopped: bool
    @property
    def is_watched(self) -> bool: ...
    def watch(self) -> None: ...
    def unwatch(self) -> None: ...
    def data_received(self, data: bytes, /) -> None: ...
