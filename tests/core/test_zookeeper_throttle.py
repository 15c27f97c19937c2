"""Gates: tokens and the chance before them, requests that wait, are dropped or refused, large ones.

Left to others: Apache's server under the same limits (tests/interop/test_zookeeper_throttle.py).
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.core.zookeeper_kit import (
    OPEN,
    Talk,
    connect_request,
    joined,
    new_machine,
    request,
    settle,
)

from stratalog.core.zookeeper.sessions import password_of
from stratalog.core.zookeeper.standalone import Farewell, Options
from stratalog.core.zookeeper.throttle import BlueThrottle, Throttled, ThrottleOptions
from stratalog.core.zookeeper.tree import Tree
from stratalog.wire.zookeeper.records import ErrorCode, OpCode

NOW_MS, WALL_MS = 1_000_000, 1_700_000_000_000


def gated(**limits: Any) -> Throttled:
    throttle = ThrottleOptions(**limits)
    machine = Throttled(
        Tree(extended=True), Options(), now_ms=NOW_MS, throttle=throttle,
        blue=BlueThrottle(throttle, NOW_MS), draw=lambda: 0.5,
    )  # fmt: skip
    machine.set_clock(NOW_MS, WALL_MS)
    return machine


def commit(machine: Throttled) -> None:
    """Commit what is on its way now, and no more."""
    proposals = machine.take_proposals()
    machine.committed(proposals[-1].zxid)


class TestTokens:
    def test_without_tokens_there_is_no_limit(self) -> None:
        blue = BlueThrottle(ThrottleOptions(), 0)
        assert all(blue.allows(1, 0, 0.0) for _ in range(1000))
        assert blue.deficit == 0

    def test_tokens_come_back_with_time(self) -> None:
        blue = BlueThrottle(ThrottleOptions(tokens=3, fill_ms=100, fill_count=2), 0)
        assert [blue.allows(1, 0, 0.0) for _ in range(4)] == [True, True, True, False]
        assert not blue.allows(1, 100, 0.0)  # not before more than the time has passed
        assert blue.allows(1, 101, 0.0)
        assert blue.deficit == 2
        assert blue.allows(1, 101, 0.0)
        assert not blue.allows(1, 200, 0.0)
        assert blue.allows(3, 10_000, 0.0)  # never more than there were
        assert blue.deficit == 3

    def test_the_chance_rises_while_there_is_nothing_and_falls_again(self) -> None:
        options = ThrottleOptions(
            tokens=2, fill_ms=1000, fill_count=2, freeze_ms=10, drop_increase=0.4,
            drop_decrease=0.3, decrease_ratio=0.5,
        )  # fmt: skip
        blue = BlueThrottle(options, 0)
        assert blue.allows(2, 0, 0.0)
        drops = []
        for now_ms in (10, 11, 21, 22, 33, 44):
            blue.allows(1, now_ms, 0.99)
            drops.append(round(blue.drop, 3))
        assert drops == [0, 0.4, 0.4, 0.8, 1, 1]
        assert not blue.allows(1, 1001, 0.6)  # 2 tokens, and a chance of 0.7
        assert round(blue.drop, 3) == 0.7
        assert blue.allows(1, 1001, 0.8)  # one is out, which is half of them
        assert not blue.allows(1, 1012, 0.3)
        assert round(blue.drop, 3) == 0.4
        for now_ms in (1023, 1034, 1045):
            blue.allows(9, now_ms, 0.0)
        assert blue.drop == 0

    @pytest.mark.parametrize(
        ("given", "new", "renewed"),
        [
            ({"weighted": False}, 1, 1), ({}, 3, 2), ({"weight_new": 5, "weight_renewed": 4}, 5, 4),
            ({"weight_new": 0, "weight_renewed": -1}, 3, 2), ({"weight_local": 9}, 9, 9),
        ],
    )  # fmt: skip
    def test_weights(self, given: dict[str, Any], new: int, renewed: int) -> None:
        options = ThrottleOptions(**{"weighted": True, "tokens": 10, **given})
        assert options.weight(new=True) == new
        assert options.weight(new=False) == renewed
        blue = BlueThrottle(options, 0)  # tokens are told in new sessions
        assert [blue.allows(new, 0, 0.0) for _ in range(11)] == [True] * 10 + [False]

    def test_a_session_without_a_token_does_not_begin(self) -> None:
        machine = gated(tokens=2, fill_ms=3_600_000)
        first = joined(machine)
        joined(machine)
        third = Talk(machine)
        machine.receive(third.client, connect_request())
        assert third.client.farewell is Farewell.TOO_MANY_SESSIONS
        assert machine.take_proposals() == []
        statistics = machine.statistics
        assert (statistics.connections_rejected, statistics.connection_requests) == (1, 2)
        assert (statistics.token_deficits.count, statistics.token_deficits.greatest) == (2, 2)
        # One that comes back needs a token too, and what is no first frame needs none.
        session_id = first.client.session_id
        again = Talk(machine)
        machine.receive(
            again.client,
            connect_request(session_id=session_id, password=password_of(session_id)),
        )
        assert again.client.farewell is Farewell.TOO_MANY_SESSIONS
        odd = Talk(machine)
        machine.receive(odd.client, b"?")
        assert odd.client.farewell is Farewell.DAMAGED_REQUEST


class TestRequestsThatWait:
    def test_so_many_are_on_their_way_and_no_more(self) -> None:
        machine = gated(requests_max=2)
        talk, other = joined(machine), joined(machine)
        for number in range(3):
            talk.send(OpCode.CREATE, f"/{number}", b"", OPEN, 0)
        read = other.send(OpCode.EXISTS, "/2", False)
        other.auth("digest", b"me:secret")  # never waits
        assert (machine.waiting, machine.has_proposals) == (4, True)
        commit(machine)
        assert [one.xid for one in talk.hear()] == [1, 2]
        # The third is on its way, and so the read had its turn: it is not behind it.
        assert [(one.xid, one.err) for one in other.hear()] == [(read, ErrorCode.NO_NODE)]
        commit(machine)
        assert [one.xid for one in talk.hear()] == [3]
        assert not machine.has_proposals
        assert machine.statistics.throttle_waits == 1
        assert machine.statistics.throttle_times.count == 4

    def test_a_read_that_waits_sees_what_came_before_it(self) -> None:
        machine = gated(requests_max=1)
        talk = joined(machine)
        talk.send(OpCode.CREATE, "/a", b"", OPEN, 0)
        talk.send(OpCode.SET_DATA, "/a", b"x", -1)
        talk.send(OpCode.GET_DATA, "/a", False)
        talk.send(OpCode.DELETE, "/a", -1)
        settle(machine)
        replies = talk.hear()
        assert [(one.xid, one.err) for one in replies] == [(1, 0), (2, 0), (3, 0), (4, 0)]
        assert replies[2].body[4:5] == b"x"

    def test_who_is_gone_is_dropped_with_all_that_they_asked(self) -> None:
        machine = gated(requests_max=1)
        talk, gone = joined(machine), joined(machine)
        talk.send(OpCode.CREATE, "/a", b"", OPEN, 0)
        for number in range(2):
            gone.send(OpCode.CREATE, f"/{number}", b"", OPEN, 0)
        machine.disconnect(gone.client)
        settle(machine)
        assert {"/0", "/1"}.isdisjoint(machine.tree.nodes)
        assert machine.statistics.stale_requests_dropped == 1  # then the connection is done for

    @pytest.mark.parametrize("how", [{"drop_stale": False}, {"stale_if_gone": False}])
    def test_or_not_dropped_where_that_is_wanted(self, how: dict[str, bool]) -> None:
        machine = gated(requests_max=1, **how)
        talk, gone = joined(machine), joined(machine)
        talk.send(OpCode.CREATE, "/a", b"", OPEN, 0)
        for number in range(2):
            gone.send(OpCode.CREATE, f"/{number}", b"", OPEN, 0)
        machine.disconnect(gone.client)
        settle(machine)
        assert {"/0", "/1"} <= machine.tree.nodes.keys()
        assert machine.statistics.stale_requests == (2 if "drop_stale" in how else 0)
        assert machine.statistics.stale_requests_dropped == 0

    @pytest.mark.parametrize("drop", [True, False])
    def test_who_waits_for_longer_than_their_session_would(self, drop: bool) -> None:
        machine = gated(requests_max=1, stale_if_late=True, drop_stale=drop)
        talk, late = joined(machine), joined(machine, timeout_ms=6000)
        talk.send(OpCode.CREATE, "/a", b"", OPEN, 0)
        late.send(OpCode.CREATE, "/b", b"", OPEN, 0)
        late.send(OpCode.CLOSE_SESSION)
        machine.set_clock(NOW_MS + 6001, WALL_MS + 6001)
        machine.wake()
        assert (late.client.farewell is Farewell.STALE_REQUEST) is drop
        settle(machine)
        assert ("/b" in machine.tree.nodes) is not drop
        assert machine.statistics.stale_requests_dropped == drop
        assert machine.statistics.stale_requests == (not drop)

    def test_who_waited_too_long_is_refused_in_their_turn(self) -> None:
        machine = gated(requests_max=2, refuse_after_ms=50)
        talk = joined(machine)
        for number in range(4):
            talk.send(OpCode.CREATE, f"/{number}", b"", OPEN, 0)
        talk.send(OpCode.PING)
        machine.set_clock(NOW_MS + 51, WALL_MS + 51)
        settle(machine)
        answers = [(one.xid, one.err) for one in talk.hear()]
        throttled = int(ErrorCode.THROTTLED_OP)
        assert answers == [(1, 0), (2, 0), (3, throttled), (4, throttled), (-2, 0)]
        assert machine.statistics.throttled_ops == 2
        assert "/2" not in machine.tree.nodes

    def test_it_answers_what_the_plain_machine_answers(self) -> None:
        """One stream of requests of one client into both: what comes back is the same."""
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        rng = random.Random(seed)
        plain, throttled = new_machine(), gated(requests_max=3)
        talks = [joined(machine) for machine in (plain, throttled)]
        for number in range(300):
            path = f"/{rng.randrange(5)}"
            kind, *fields = rng.choice(
                (
                    (OpCode.CREATE, path, b"", OPEN, rng.randrange(4)),
                    (OpCode.DELETE, path, -1), (OpCode.GET_DATA, path, True),
                    (OpCode.SET_DATA, path, b"x", -1), (OpCode.GET_CHILDREN, "/", False),
                )
            )  # fmt: skip
            frame = request(number, kind, *fields)
            for talk in talks:
                talk.machine.receive(talk.client, frame)
            if rng.random() < 0.2:
                for talk in talks:
                    settle(talk.machine)
        for talk in talks:
            settle(talk.machine)
            talk.hear()
        shown = [[(one.xid, one.err, one.body) for one in talk.replies] for talk in talks]
        assert [one for one in shown[0] if one[0] >= 0] == [one for one in shown[1] if one[0] >= 0]
        assert plain.tree.digest == throttled.tree.digest
        assert throttled.statistics.throttle_waits > 0


class TestLargeRequests:
    def test_so_many_bytes_of_them_are_on_their_way_and_no_more(self) -> None:
        machine = gated(large_from_bytes=1000, large_bytes_max=5000)
        talk, other = joined(machine), joined(machine)
        talk.create("/a")
        for _ in range(2):
            talk.send(OpCode.SET_DATA, "/a", bytes(2000), -1)
        other.send(OpCode.SET_DATA, "/a", bytes(900), -1)  # not large
        other.send(OpCode.SET_DATA, "/a", bytes(2000), -1)
        assert other.client.farewell is Farewell.TOO_LARGE_NOW
        assert machine.statistics.large_requests_rejected == 1
        settle(machine)
        assert len(talk.hear()) == 2
        # They are done: there is room again.
        for _ in range(2):
            talk.send(OpCode.SET_DATA, "/a", bytes(2000), -1)
        assert talk.client.farewell is None

    def test_what_is_answered_at_once_takes_no_room(self) -> None:
        machine = gated(large_from_bytes=100, large_bytes_max=1000)
        talk = joined(machine)
        path = "/" + "x" * 500
        for _ in range(5):
            assert talk.fail(OpCode.EXISTS, path, False) == "NO_NODE"

    def test_what_is_dropped_takes_no_room(self) -> None:
        machine = gated(requests_max=1, large_from_bytes=100, large_bytes_max=1000)
        talk = joined(machine)
        talk.send(OpCode.CREATE, "/a", b"", OPEN, 0)
        for _ in range(5):
            gone = joined_beside(machine)
            gone.send(OpCode.SET_DATA, "/a", bytes(800), -1)
            machine.disconnect(gone.client)
        assert machine.statistics.large_requests_rejected == 0


def joined_beside(machine: Throttled) -> Talk:
    """A session, resumed: it needs nothing to be committed."""
    session = machine.tracker.track(machine.tracker.new_id(), 10_000, NOW_MS)
    talk = Talk(machine)
    again = connect_request(session_id=session.session_id, password=password_of(session.session_id))
    machine.receive(talk.client, again)
    talk.hear()
    assert talk.welcome is not None
    return talk


def test_every_limit_is_off_by_default() -> None:
    assert not ThrottleOptions().limits
    for limit in ({"tokens": 1}, {"requests_max": 1}, {"large_from_bytes": 1}):
        assert ThrottleOptions(**limit).limits  # type: ignore[arg-type]
