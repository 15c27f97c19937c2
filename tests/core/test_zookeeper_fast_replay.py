"""Transactions of a log, applied by C where they are plain: the tree is what Python makes of them.

    transactions, odd and   -+-> tree.replay, and tree.apply where it says so --+-> the same tree
    broken ones too          +-> tree.apply alone -----------------------------+

How many C took is counted: equality cannot come from C doing nothing.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from stratalog.core.zookeeper._fast import replay
from stratalog.core.zookeeper.identity import OPEN_ACL, READ_ONLY_ACL
from stratalog.core.zookeeper.tree import Tree
from stratalog.errors import JuteError
from stratalog.wire.jute import unpacker
from stratalog.wire.zookeeper.records import ACL, Id, OpCode
from stratalog.wire.zookeeper.txns import (
    CreateContainerTxn,
    CreateSessionTxn,
    CreateTxn,
    DeleteTxn,
    ErrorTxn,
    SetDataTxn,
    Transaction,
    TxnDigest,
    TxnHeader,
    body_fields,
)

from .zookeeper_pair import check_tree, tree_state

_unpack_header = unpacker(TxnHeader)
_unpack_digest = unpacker(TxnDigest)
ODD_ACLS = (
    READ_ONLY_ACL,
    (ACL(30, Id("world", "anyone")),),
    (ACL(31, Id("world", "anyon")),),
    (*OPEN_ACL, *OPEN_ACL),
    (),
)
NAMES = ("a", "b", "c", "dd", "zookeeper", "zookeeperx", "\u00fc", "\U0001f600", "n\0l", "")


class Transactions:
    """Random transactions about a small tree, most of them plain."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.zxid = 0

    def _path(self, tree: Tree, *, known: bool) -> str:
        draw = self.random
        if draw.random() < 0.1:
            known = not known
        paths = list(tree.nodes)[5:]  # no log deletes the first ones
        if draw.random() < 0.9:
            paths = [path for path in paths if not path.startswith("/zookeeper")]
        if known and paths:
            return draw.choice(paths)
        parent = draw.choice([*paths, "", ""] if draw.random() < 0.95 else list(tree.nodes))
        name = draw.choice(NAMES) if draw.random() < 0.1 else f"n{draw.randrange(40)}"
        return f"{'' if parent == '/' else parent}/{name}"

    def next(self, tree: Tree) -> bytes:
        draw = self.random
        self.zxid += 1 if draw.random() < 0.95 else -draw.randrange(3)
        kind = draw.choice((1, 1, 1, 1, 15, 15, 5, 5, 5, 2, 2, 19, -1, -10))
        path = self._path(tree, known=kind in (2, 5))
        parent = tree.nodes.get(path.rpartition("/")[0])
        data: bytes | None = draw.randbytes(draw.randrange(40)) if draw.random() < 0.9 else None
        body: Any
        if kind in (1, 15):
            acl = OPEN_ACL if draw.random() < 0.9 else draw.choice(ODD_ACLS)
            cversion = (0 if parent is None else parent.cversion) + 1
            if draw.random() < 0.1:
                cversion += draw.choice((-2, -1, 5, -cversion - 1))
            body = CreateTxn(path, data, acl, draw.random() < 0.05, cversion)
        elif kind == 5:
            body = SetDataTxn(path, data, draw.randrange(-1, 9))
        elif kind == 2:
            body = DeleteTxn(path)
        elif kind == 19:
            body = CreateContainerTxn(path, data, OPEN_ACL, 1 + draw.randrange(3))
        elif kind == -1:
            body = ErrorTxn(-101)
        else:
            body = CreateSessionTxn(30_000)
        digest = TxnDigest(2, draw.getrandbits(63)) if draw.random() < 0.5 else None
        header = TxnHeader(draw.choice((0, 7, 9)), 1, self.zxid, 1_000 + self.zxid, kind)
        return Transaction(header, body, digest).encode()

    def broken(self, payload: bytes) -> bytes:
        draw = self.random
        how = draw.randrange(4)
        if how == 0:
            return payload[: draw.randrange(len(payload))]
        if how == 1:
            return payload + draw.randbytes(draw.randrange(1, 20))
        at = draw.randrange(len(payload)) if how == 2 else draw.randrange(32, len(payload) + 1)
        return payload[:at] + draw.choice((b"\xff", b"\0", b"\x80", b"\x7f")) + payload[at + 1 :]


def apply_slowly(tree: Tree, payload: bytes) -> int | None:
    """As recovery.py does where C does not."""
    (session_id, _, zxid, time_ms, kind), at = _unpack_header(payload, 0)
    fields, at = body_fields(kind, payload, at)
    digest: int | None = None
    if at < len(payload):
        (_, digest), at = _unpack_digest(payload, at)
    tree.apply(kind, session_id, zxid, time_ms, fields)
    return digest


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_a_log_makes_the_same_tree(seed: int, digests: bool) -> None:
    transactions = Transactions(seed)
    fast, slow = Tree(digests=digests), Tree(digests=digests)
    taken = broken = refused = 0
    for n in range(1_500):
        payload = transactions.next(slow)
        if transactions.random.random() < 0.15:
            payload = transactions.broken(payload)
            broken += 1
        before = tree_state(fast) if n % 50 == 0 else None
        try:
            expected = apply_slowly(slow, payload)
        except (JuteError, KeyError, UnicodeDecodeError):
            refused += 1
            assert fast.replay(payload) is False, payload
            assert before is None or tree_state(fast) == before
            continue
        digest = fast.replay(payload)
        if digest is False:
            digest = apply_slowly(fast, payload)
        else:
            taken += 1
        assert digest == expected, payload
        assert fast.verify(digest) == slow.verify(expected)
        assert (fast.digest, fast.last_zxid) == (slow.digest, slow.last_zxid), payload
        if n % 50 == 0:
            assert tree_state(fast) == tree_state(slow)
    assert tree_state(fast) == tree_state(slow)
    check_tree(fast)
    assert taken > 300
    assert broken > 100
    assert refused > 20


def test_a_quota_or_an_unknown_acl_is_for_python() -> None:
    tree = Tree()
    create = Transaction(
        TxnHeader(1, 1, 1, 1, OpCode.CREATE), CreateTxn("/a", b"x", OPEN_ACL, False, 1)
    ).encode()
    assert tree.replay(create) is False  # nobody has used the open ACL: its index is not known
    apply_slowly(tree, create)
    change = Transaction(
        TxnHeader(1, 1, 2, 2, OpCode.SET_DATA), SetDataTxn("/a", b"yy", 1), TxnDigest(2, 77)
    ).encode()
    tree.quotas.paths.add("/a")
    assert tree.replay(change) is False
    tree.quotas.paths.discard("/a")
    assert tree.replay(change) == 77
    assert tree.nodes["/a"].data == b"yy"
    assert tree.last_zxid == 2


def test_what_is_no_tree_or_no_payload_is_refused() -> None:
    with pytest.raises(TypeError):
        replay(object(), b"")  # type: ignore[arg-type]
    tree = Tree()
    with pytest.raises(TypeError):
        tree.replay("text")  # type: ignore[arg-type]
    assert tree.replay(b"") is False
    whole = Tree()
    whole.acls = None  # type: ignore[assignment]
    with pytest.raises(TypeError, match="table of ACLs"):
        whole.replay(b"")
