"""One random stream of operations into Apache ZooKeeper and into ours, in its quick form.

every reply, Stat, error, event and closing of a connection is equal but for clocks and session ids,
and so are the two data directories afterwards, as Apache's classes read them
it catches a server that is wrong in one small place: each planted bug is found

The full form is ``python -m tools.differential.zookeeper --seed N --operations 100000``, once more
with ``--hard-quotas``, and with ``--plant`` for every bug of tools/differential/ours.py.
"""

from __future__ import annotations

import pytest
from tools.differential.zookeeper import run
from tools.peers import zookeeper

from stratalog.wire.zookeeper.records import ErrorCode, OpCode

SEED = 9
OPERATIONS = 3000
OPERATIONS_HARD = 1000
OPERATIONS_PLANTED = 4000
PLANTED = ("cversion", "event", "zxid")

ANSWERED = set(OpCode) - {
    OpCode.NOTIFICATION, OpCode.DELETE_CONTAINER, OpCode.CREATE_SESSION, OpCode.CHECK, OpCode.ERROR,
    OpCode.RECONFIG,
}  # fmt: skip
"""What must have succeeded at least once; check does within a multi, reconfig on no one server."""

ERRORS = {
    ErrorCode.OK, ErrorCode.MARSHALLING_ERROR, ErrorCode.UNIMPLEMENTED, ErrorCode.BAD_ARGUMENTS,
    ErrorCode.NO_NODE, ErrorCode.NO_AUTH, ErrorCode.BAD_VERSION, ErrorCode.NODE_EXISTS,
    ErrorCode.NO_CHILDREN_FOR_EPHEMERALS, ErrorCode.NOT_EMPTY, ErrorCode.INVALID_ACL,
    ErrorCode.AUTH_FAILED, ErrorCode.NO_WATCHER, ErrorCode.RECONFIG_DISABLED,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def need_zookeeper() -> None:
    """Skip with the reason where Apache ZooKeeper cannot run."""
    try:
        zookeeper.jars()
    except zookeeper.PeerUnavailable as reason:
        pytest.skip(f"Apache ZooKeeper is not to be had: {reason}")


@pytest.mark.interop
def test_both_servers_answer_alike() -> None:
    outcome = run(SEED, OPERATIONS, restart_every=OPERATIONS)
    print(outcome.table())
    assert not outcome.difference
    # Nothing was left out, or equality would mean little.
    succeeded = {kind for kind, err in outcome.answers if err == 0}
    assert succeeded >= ANSWERED
    assert {err for _, err in outcome.answers} >= ERRORS
    assert set(outcome.events) == {1, 2, 3, 4}
    assert set(outcome.multis) >= {
        0, ErrorCode.NO_NODE, ErrorCode.NODE_EXISTS, ErrorCode.BAD_VERSION
    }  # fmt: skip
    assert outcome.sessions > 10
    assert outcome.restarts == 1


@pytest.mark.interop
def test_both_servers_enforce_quotas_alike() -> None:
    outcome = run(SEED, OPERATIONS_HARD, hard_quotas=True, directories=False)
    print(outcome.table())
    assert not outcome.difference
    assert ErrorCode.QUOTA_EXCEEDED in {err for _, err in outcome.answers}


@pytest.mark.interop
@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_bug_is_found(plant: str) -> None:
    outcome = run(SEED, OPERATIONS_PLANTED, plant=plant)
    assert outcome.difference.startswith("difference at operation"), outcome.table()
