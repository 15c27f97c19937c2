"""Sessions: passwords that other servers come to as well, ids, expiry by buckets."""

from __future__ import annotations

import random

import pytest

from stratalog.core.zookeeper.sessions import (
    PASSWORD_BYTES,
    SessionTracker,
    first_session_id,
    password_of,
)

TICK_MS = 2000


@pytest.mark.parametrize(
    ("session_id", "password"),
    [
        (0x1000001D8A50000, "b14e7e56eab83b2477c34821436cee84"),
        # java.util.Random(0) and (42), whose first outputs everybody knows
        (0xB3415C00, "60b420bb3851d9d47acb933dbe70399b"),
    ],
)
def test_golden_passwords(session_id: int, password: str) -> None:
    assert password_of(session_id).hex() == password
    assert len(password_of(session_id)) == PASSWORD_BYTES


def test_a_password_follows_from_48_bits_of_the_id_alone() -> None:
    assert password_of(-1) == password_of((1 << 64) - 1)
    assert password_of(5) != password_of(6)


@pytest.mark.parametrize(
    ("server_id", "now_ms", "session_id"),
    [
        (1, 0, 1 << 56),
        (1, 0x19D8A5, 0x100_0019D8A5_0000),
        (1, (1 << 40) + 5, (1 << 56) | 5 << 16),  # of the time 40 bits count
        (255, 0, -(1 << 56)),
        (128, 0, -(1 << 63) + 1),  # the very id that marks containers is skipped
    ],
)
def test_first_ids(server_id: int, now_ms: int, session_id: int) -> None:
    assert first_session_id(server_id, now_ms) == session_id


def test_ids_are_nobody_elses() -> None:
    tracker = SessionTracker(tick_ms=TICK_MS, server_id=1, now_ms=77)
    ids = [tracker.new_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert ids[0] == first_session_id(1, 77)


@pytest.mark.parametrize(
    ("now_ms", "timeout_ms", "due_ms"),
    [(0, 4000, 6000), (1, 4000, 6000), (1999, 4000, 6000), (2000, 4000, 8000), (0, 1, 2000)],
)
def test_the_bucket_is_apaches(now_ms: int, timeout_ms: int, due_ms: int) -> None:
    tracker = SessionTracker(tick_ms=TICK_MS, server_id=1, now_ms=now_ms)
    session = tracker.track(9, timeout_ms, now_ms)
    assert tracker.buckets() == {due_ms: [9]}
    assert tracker.expired(due_ms - 1) == []
    assert tracker.expired(due_ms) == [session]
    assert session.closing
    assert tracker.expired(due_ms + 10 * TICK_MS) == []


def test_random_lives() -> None:
    """Not before the timeout, at most a tick after it, whatever is touched when."""
    draw = random.Random(11)
    for _ in range(40):
        now_ms = draw.randrange(10**6)
        tracker = SessionTracker(tick_ms=TICK_MS, server_id=1, now_ms=now_ms)
        heard: dict[int, int] = {}
        for _ in range(300):
            now_ms += draw.randrange(TICK_MS // 2)
            action = draw.random()
            if action < 0.1:
                session_id = tracker.new_id()
                tracker.track(session_id, draw.randint(1, 5 * TICK_MS), now_ms)
                heard[session_id] = now_ms
            elif action < 0.6 and heard:
                session = tracker.get(draw.choice(list(heard)))
                assert session is not None
                tracker.touch(session, now_ms)
                heard[session.session_id] = now_ms
            elif action < 0.65 and heard:
                gone = draw.choice(list(heard))
                tracker.remove(gone)
                del heard[gone]
            else:
                for session in tracker.expired(now_ms):
                    due_ms = heard.pop(session.session_id) + session.timeout_ms
                    assert now_ms >= due_ms
                    tracker.touch(session, now_ms)  # too late
                    tracker.remove(session.session_id)
                assert tracker.next_due_ms() > now_ms
                for session_id, at_ms in heard.items():
                    live = tracker.get(session_id)
                    assert live is not None
                    assert now_ms < at_ms + live.timeout_ms + TICK_MS
            assert {one.session_id for one in tracker.all()} == heard.keys()
            held = [one for bucket in tracker.buckets().values() for one in bucket]
            assert sorted(held) == sorted(heard)


def test_those_of_one_bucket_go_in_the_order_of_touching() -> None:
    tracker = SessionTracker(tick_ms=TICK_MS, server_id=1, now_ms=0)
    for session_id in (5, 3, 9, 1):
        tracker.track(session_id, 4000, 0)
    assert [one.session_id for one in tracker.expired(6000)] == [5, 3, 9, 1]


def test_every_clock_starts_anew_after_a_restart() -> None:
    tracker = SessionTracker(tick_ms=TICK_MS, server_id=1, now_ms=50_000)
    tracker.load({1: 4000, 2: 30_000}, 50_000)
    assert len(tracker) == 2
    assert tracker.expired(53_999) == []
    assert [one.session_id for one in tracker.expired(56_000)] == [1]
