"""kazoo's own tests against our server, started by kazoo's harness as it starts Apache's.

Here a quick part: requests, transactions, ACLs, a TLS port, SASL.  All of them pass against Apache
ZooKeeper 3.9.5.  The whole suite, Apache's server beside ours, is run by name:

    python -m tools.peers.kazoo_suite

With one server both pass the same tests and fail the same seven, which need an ensemble:
``test_update_host_list`` (with each of three handlers), three of ``TestReconfig``, and
``test_read_only``.  Two tests of Kerberos are skipped.
"""

from __future__ import annotations

import pytest
from tools.peers import java_shim, kazoo_suite

QUICK = (
    "kazoo/tests/test_client.py::TestClient",
    "kazoo/tests/test_client.py::TestClientTransactions",
    "kazoo/tests/test_client.py::TestSSLClient",
    "kazoo/tests/test_sasl.py",
    "-k",
    "not test_update_host_list and not GSSAPI and not request_queuing",
)
QUICK_TESTS_MIN = 70


@pytest.mark.interop
def test_a_quick_part_of_kazoos_suite_passes(tmp_path):
    try:
        outcomes = kazoo_suite.run("ours", QUICK, log=tmp_path / "said")
    except kazoo_suite.PeerUnavailable as reason:
        pytest.skip(f"kazoo's suite is not to be had: {reason}")
    others = {name: one for name, one in outcomes.items() if one.verdict != "passed"}
    assert others == {}, (tmp_path / "said").read_text()[-4000:]
    assert len(outcomes) >= QUICK_TESTS_MIN


def test_the_shim_understands_what_harnesses_say():
    words = (
        "-cp", "a.jar:b.jar", "-Dreadonlymode.enabled=true", "-Xmx1g", "-Dzookeeper.x=y=z",
        "org.apache.zookeeper.server.quorum.QuorumPeerMain", "/etc/zoo.cfg",
    )  # fmt: skip
    assert java_shim.translate(words) == [
        "serve", "--zoo-cfg", "/etc/zoo.cfg", "-Dreadonlymode.enabled=true", "-Dzookeeper.x=y=z",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("-version",),
        ("-cp", "a.jar", "org.apache.zookeeper.ZooKeeperMain", "ls"),
        ("-cp", "a.jar", "org.apache.zookeeper.server.quorum.QuorumPeerMain"),
    ],
)
def test_the_shim_refuses_what_is_no_server(words):
    with pytest.raises(ValueError, match="only starts"):
        java_shim.translate(words)
