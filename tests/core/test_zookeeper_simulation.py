"""The ordering rules hold over random runs, and each is shown to catch a machine that breaks it.

A failure prints its seed: ``Simulation(seed).run(steps)`` is that run again.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.core.zookeeper_simulator import INVARIANTS, BrokenError, Simulation, nodes_of

from stratalog.core.zookeeper import sessions, standalone, tree, watches
from stratalog.core.zookeeper.prepare import Preparer
from stratalog.core.zookeeper.sessions import SessionTracker
from stratalog.core.zookeeper.standalone import Client, Standalone
from stratalog.core.zookeeper.tree import Tree
from stratalog.core.zookeeper.watches import Mode, Watches, WatchManager
from stratalog.wire.zookeeper.records import OpCode

SEEDS = range(10)
STEPS = 600
Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_everything_holds(seed: int, fast: bool) -> None:
    simulation = Simulation(seed, fast=fast)
    simulation.run(STEPS)
    # What is in the log makes the same tree again, and again when all of it or its end is applied
    # twice.
    again = Tree(extended=True)
    for start in (0, 0, simulation.model.zxid // 2, simulation.model.zxid - 1):
        for prepared in simulation.applied[start:]:
            again.apply(
                prepared.type, prepared.session_id, prepared.zxid, prepared.time_ms, prepared.fields
            )
        if start == 0:
            assert nodes_of(again).keys() == simulation.model.nodes.keys()
    assert again.digest == simulation.machine.tree.digest


def test_every_invariant_is_looked_at() -> None:
    simulation = Simulation(99)
    simulation.run(4 * STEPS)
    assert simulation.counts.keys() == INVARIANTS.keys()
    assert min(simulation.counts.values()) > 30, simulation.counts


def test_the_same_seed_is_the_same_run() -> None:
    runs = []
    for fast in (True, True, False):
        simulation = Simulation(3, fast=fast)
        simulation.run(300)
        runs.append([prepared.payload for prepared in simulation.applied])
    assert runs[0] == runs[1] == runs[2]
    assert len(runs[0]) > 100


# ---- machines that break the rules ----


def answers_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    receive = Standalone.receive

    def hasty(machine: Standalone, client: Client, frame: bytes) -> None:
        receive(machine, client, frame)
        if machine.waiting == 1:
            machine.committed(machine.preparer.zxid)

    patch.setattr(Standalone, "receive", hasty)


def reads_overtake_writes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standalone, "_AT_ONCE", standalone.READS.keys() | standalone._AT_ONCE)


def answers_undecodable_writes_at_once(patch: pytest.MonkeyPatch) -> None:
    write = Standalone._write

    def hasty(machine: Standalone, client: Client, *rest: object) -> None:
        pending, client.pending = client.pending, type(client.pending)()
        write(machine, client, *rest)  # type: ignore[arg-type]
        for entry in client.pending:
            pending.append(entry)
        client.pending = pending

    patch.setattr(Standalone, "_write", hasty)


def events_come_behind_the_reply(patch: pytest.MonkeyPatch) -> None:
    notify, committed = Client.notify, Standalone.committed
    late: list[tuple[object, ...]] = []

    def notify_later(client: Client, event: object, path: str, zxid: int, acl: object) -> None:
        if zxid == watches.NO_ZXID:
            notify(client, event, path, zxid, acl)  # type: ignore[arg-type]
        else:
            late.append((client, event, path, zxid, acl))

    def committed_first(machine: Standalone, zxid: int) -> None:
        committed(machine, zxid)
        for one in late:
            notify(*one)  # type: ignore[arg-type]
        late.clear()

    patch.setattr(Client, "notify", notify_later)
    patch.setattr(Standalone, "committed", committed_first)


def zxids_of_reads_lag(patch: pytest.MonkeyPatch) -> None:
    frame = standalone._frame

    def lagging(xid: int, zxid: int, err: int, body: bytes) -> bytes:
        return frame(xid, max(0, zxid - 2) if xid > 0 and len(body) > 60 else zxid, err, body)

    patch.setattr(standalone, "_frame", lagging)


def deletes_are_told_by_both_managers(patch: pytest.MonkeyPatch) -> None:
    trigger = WatchManager.trigger

    def forgetful(manager: WatchManager, *event: object) -> object:
        return trigger(manager, *event[:4])  # type: ignore[arg-type]

    patch.setattr(WatchManager, "trigger", forgetful)


def one_shots_stay(patch: pytest.MonkeyPatch) -> None:
    put = WatchManager._set

    def put_back(
        manager: WatchManager, path: str, watcher: watches.Watcher, before: Mode, after: Mode
    ) -> None:
        if after | Mode.ONE_SHOT != before:
            put(manager, path, watcher, before, after)

    patch.setattr(WatchManager, "_set", put_back)


def events_get_lost(patch: pytest.MonkeyPatch) -> None:
    notify = Client.notify

    def sometimes(client: Client, event: int, path: str, zxid: int, acl: object) -> None:
        if zxid % 5 or zxid < 0:
            notify(client, event, path, zxid, acl)  # type: ignore[arg-type]

    patch.setattr(Client, "notify", sometimes)


def everybody_may_hear(patch: pytest.MonkeyPatch) -> None:
    notify = Client.notify
    patch.setattr(
        Client,
        "notify",
        lambda client, event, path, zxid, _: notify(client, event, path, zxid, None),
    )


def watches_outlive_connections(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Watches, "forget", lambda _watches, _watcher: None)


def sessions_go_early(patch: pytest.MonkeyPatch) -> None:
    expired = SessionTracker.expired
    patch.setattr(
        SessionTracker, "expired", lambda tracker, now_ms: expired(tracker, now_ms + 3000)
    )


def sessions_are_not_touched(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SessionTracker, "touch", lambda _tracker, _session, _now_ms: None)


def sessions_stay(patch: pytest.MonkeyPatch) -> None:
    expired = SessionTracker.expired
    patch.setattr(
        SessionTracker, "expired", lambda tracker, now_ms: expired(tracker, now_ms - 3000)
    )


def failed_multis_are_not_taken_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Preparer, "_take_back", lambda _preparer: None)


def applied_changes_are_not_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Preparer, "applied", lambda _preparer, _zxid: None)


def requests_are_decided_against_the_tree_alone(patch: pytest.MonkeyPatch) -> None:
    find = Preparer._find

    def blind(preparer: Preparer, path: str) -> object:
        known, preparer._by_path = preparer._by_path, {}
        try:
            return find(preparer, path)
        finally:
            preparer._by_path = known

    patch.setattr(Preparer, "_find", blind)


def digests_miss_a_change(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tree, "_changed", lambda _tree, _path, _node: None)


def ephemerals_stay(patch: pytest.MonkeyPatch) -> None:
    close = Tree._close_session

    def leaky(one: Tree, session_id: int, zxid: int, fields: tree.Fields) -> None:
        kept, one.ephemerals = one.ephemerals, {}
        close(one, session_id, zxid, (fields[0][1:],))
        one.ephemerals = kept

    patch.setattr(Tree, "_close_session", leaky)


def farewells_are_not_the_end(patch: pytest.MonkeyPatch) -> None:
    send = Client.send

    def talkative(client: Client, frame: bytes) -> None:
        why, client.farewell = client.farewell, None
        send(client, frame)
        client.farewell = why

    patch.setattr(Client, "send", talkative)


def errors_are_answered_as_successes(patch: pytest.MonkeyPatch) -> None:
    reply = Standalone._reply

    def rosy(
        machine: Standalone, client: Client, write: standalone.Write, result: tree.Result
    ) -> None:
        if write.kind == OpCode.DELETE:
            result.err = 0
        reply(machine, client, write, result)

    patch.setattr(Standalone, "_reply", rosy)


def versions_of_stats_are_stale(patch: pytest.MonkeyPatch) -> None:
    set_data = Tree.set_data

    def stale(one: Tree, path: str, *rest: object) -> bytes:
        before = one.stat(one.nodes[path])
        set_data(one, path, *rest)  # type: ignore[arg-type]
        return before

    patch.setattr(Tree, "set_data", stale)


def reads_are_judged_late(patch: pytest.MonkeyPatch) -> None:
    """A read that came before its session's close is refused because the close came too."""
    read = Standalone._read

    def late(
        machine: Standalone, client: Client, session: sessions.Session, xid: int, kind: int,
        frame: bytes,
    ) -> None:  # fmt: skip
        if session.closing and kind in standalone.READS:
            machine._refuse_expired(client, xid)
        else:
            read(machine, client, session, xid, kind, frame)

    patch.setattr(Standalone, "_read", late)


PLANTED: list[tuple[str, Plant]] = [
    ("unseen", answers_before_the_commit),
    ("order", reads_overtake_writes),
    ("order", answers_undecodable_writes_at_once),
    ("events first", events_come_behind_the_reply),
    ("zxids", zxids_of_reads_lag),
    ("once", deletes_are_told_by_both_managers),
    ("one shot", one_shots_stay),
    ("events", events_get_lost),
    ("events", everybody_may_hear),
    ("forgotten", watches_outlive_connections),
    ("not early", sessions_go_early),
    ("not early", sessions_are_not_touched),
    ("not late", sessions_stay),
    ("order", reads_are_judged_late),
    ("tree", failed_multis_are_not_taken_back),
    ("tree", applied_changes_are_not_forgotten),
    ("tree", digests_miss_a_change),
    ("model", requests_are_decided_against_the_tree_alone),
    ("model", ephemerals_stay),
    ("farewell", farewells_are_not_the_end),
    ("acknowledged", errors_are_answered_as_successes),
    ("acknowledged", versions_of_stats_are_stale),
]


@pytest.mark.parametrize(("name", "plant"), PLANTED, ids=[plant.__name__ for _, plant in PLANTED])
def test_a_planted_bug_is_caught(name: str, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for seed in range(10):
        simulation = Simulation(seed, collect=True, fast=False)
        try:
            for _ in range(STEPS):
                simulation.step()
                if name in simulation.broken:
                    return
        except Exception:  # noqa: BLE001  (what it broke comes first; a crash is no proof)
            if name in simulation.broken:
                return
            continue
    pytest.fail(f"{plant.__name__}: {INVARIANTS[name]} was not seen to break")


def test_every_invariant_has_a_bug_that_it_catches() -> None:
    assert {name for name, _ in PLANTED} == INVARIANTS.keys()


def test_a_broken_invariant_ends_an_ordinary_run(monkeypatch: pytest.MonkeyPatch) -> None:
    one_shots_stay(monkeypatch)
    with pytest.raises(BrokenError, match="one-shot"):
        Simulation(1, fast=False).run(STEPS)
