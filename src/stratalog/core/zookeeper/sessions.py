"""Sessions: who is there, until when, and who must go.

Expiry goes by buckets of one tick, as in Apache's server: a session that is touched now with a
timeout t leaves with the bucket ``((now + t) / tick + 1) * tick``, so it may live up to a tick
longer than asked.  Touching costs a look at two numbers while the bucket stays the same.

    new ---- touched ----> in a bucket ---- bucket due, or closeSession ----> closing ----> gone
                              ^   |                                           (txn applied)
                              +---+ touched

A session that is closing refuses everything: SESSION_EXPIRED.

Times are ms of one monotonic clock, passed in.

Source: ``SessionTrackerImpl.java``, ``ExpiryQueue.java``, ``ZooKeeperServer.java``
(generatePasswd).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from stratalog.core.zookeeper._fast import Session
from stratalog.wire.zookeeper.messages import PASSWORD_BYTES

__all__ = ["Session", "SessionTracker", "first_session_id", "password_of"]

_SUPER_SECRET: Final = 0xB3415C00
_LCG_MASK: Final = (1 << 48) - 1
_LCG_FACTOR: Final = 0x5DEECE66D
_CONTAINER_MARK: Final = -(1 << 63)


def password_of(session_id: int) -> bytes:
    """Return a session's password: 16 bytes of ``java.util.Random`` seeded with its id.

    Every server of an ensemble must come to the same one, or sessions could not move.
    """
    state = ((session_id ^ _SUPER_SECRET) ^ _LCG_FACTOR) & _LCG_MASK
    words = []
    for _ in range(PASSWORD_BYTES // 4):
        state = (state * _LCG_FACTOR + 0xB) & _LCG_MASK
        words.append(state >> 16)
    return struct.pack("<4I", *words)


def first_session_id(server_id: int, now_ms: int) -> int:
    """Return the first id that a server gives out: its own in the top byte, then the time."""
    since = ((now_ms << 24) & 0xFFFFFFFFFFFFFFFF) >> 8
    raw = (since | (server_id << 56)) & 0xFFFFFFFFFFFFFFFF
    signed = raw - (1 << 64) if raw >> 63 else raw
    return signed + 1 if signed == _CONTAINER_MARK else signed


class SessionTracker:
    """All sessions of a server."""

    def __init__(self, *, tick_ms: int, server_id: int, now_ms: int) -> None:
        self.tick_ms = tick_ms
        self._next_id = first_session_id(server_id, now_ms)
        self._sessions: dict[int, Session] = {}
        self._buckets: dict[int, dict[Session, None]] = {}
        self._due_ms = self._bucket(now_ms)

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, session_id: int) -> Session | None:
        """Return a session, None where there is none."""
        return self._sessions.get(session_id)

    def all(self) -> list[Session]:
        """Return every session."""
        return list(self._sessions.values())

    def new_id(self) -> int:
        """Return an id that nobody has."""
        session_id = self._next_id
        self._next_id += 1
        return session_id

    def track(self, session_id: int, timeout_ms: int, now_ms: int) -> Session:
        """Begin to watch over a session, or touch it where that began before."""
        session = self._sessions.get(session_id)
        if session is None:
            session = self._sessions[session_id] = Session(session_id, timeout_ms)
        session.timeout_ms = timeout_ms
        self._move(session, self._bucket(now_ms + timeout_ms))
        return session

    def load(self, timeouts_ms: Mapping[int, int], now_ms: int) -> None:
        """Begin to watch over the sessions of a snapshot and its log; every clock starts anew."""
        for session_id, timeout_ms in timeouts_ms.items():
            self.track(session_id, timeout_ms, now_ms)

    def touch(self, session: Session, now_ms: int) -> None:
        """Its client was heard of."""
        bucket_ms = (
            (now_ms + session.timeout_ms) // self.tick_ms + 1
        ) * self.tick_ms  # fmt: skip
        if bucket_ms != session.bucket_ms and not session.closing:
            self._move(session, bucket_ms)

    def remove(self, session_id: int) -> None:
        """A session is gone."""
        session = self._sessions.pop(session_id, None)
        if session is not None:
            session.closing = True
            self._leave(session)

    def expired(self, now_ms: int) -> list[Session]:
        """Return the sessions whose time is over, closing from now on, the oldest first."""
        over: list[Session] = []
        while self._due_ms <= now_ms:
            for session in self._buckets.pop(self._due_ms, ()):
                session.bucket_ms = 0
                if not session.closing:
                    session.closing = True
                    over.append(session)
            self._due_ms += self.tick_ms
        return over

    def next_due_ms(self) -> int:
        """Return when ``expired`` may have something next."""
        return self._due_ms

    def buckets(self) -> dict[int, list[int]]:
        """Return session ids by the time they expire, the earliest first."""
        return {
            due_ms: sorted(session.session_id for session in sessions)
            for due_ms, sessions in sorted(self._buckets.items())
        }

    def _bucket(self, time_ms: int) -> int:
        return (time_ms // self.tick_ms + 1) * self.tick_ms

    def _move(self, session: Session, bucket_ms: int) -> None:
        self._leave(session)
        session.bucket_ms = bucket_ms
        self._buckets.setdefault(bucket_ms, {})[session] = None

    def _leave(self, session: Session) -> None:
        bucket = self._buckets.get(session.bucket_ms)
        if bucket is not None:
            bucket.pop(session, None)
            if not bucket:
                del self._buckets[session.bucket_ms]
