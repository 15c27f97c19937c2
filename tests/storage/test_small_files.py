"""Kafka's small files: golden bytes, round trips, and what a damaged one answers.

The golden texts were written by Apache Kafka 4.2 (checkpoints, partition.metadata, meta.properties
of a KRaft node) but for dates and random identifiers, which are replaced by fixed ones.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratalog.errors import CorruptLogError, InvalidArgumentError, LogNotFoundError, StorageError
from stratalog.storage import (
    CleanShutdown,
    EpochEntry,
    MetaProperties,
    PartitionMetadata,
    TopicPartition,
    decode_epochs,
    decode_offsets,
    encode_epochs,
    encode_offsets,
    read_epochs,
    read_offsets,
    replace,
    write_epochs,
    write_offsets,
)
from stratalog.storage.metadata import decode_uuid, encode_uuid

OFFSETS = {TopicPartition("orders", 0): 183042, TopicPartition("orders", 1): 990}
OFFSETS_GOLDEN = b"0\n2\norders 0 183042\norders 1 990\n"
EPOCHS = [EpochEntry(0, 0), EpochEntry(4, 120000)]
EPOCHS_GOLDEN = b"0\n2\n0 0\n4 120000\n"
TOPIC_ID = uuid.UUID("8f3b1c5e-2d4a-4e6f-9b1a-0c2d3e4f5a6b")
PARTITION_GOLDEN = b"version: 0\ntopic_id: jzscXi1KTm-bGgwtPk9aaw"
META_GOLDEN = b"""#
#Sat Nov 21 02:43:02 UTC 2026
cluster.id=MkU3OEVBNTcwNTJENDM2Qg
directory.id=jzscXi1KTm-bGgwtPk9aaw
node.id=1
version=1
"""


def test_golden_bytes():
    assert encode_offsets(OFFSETS) == OFFSETS_GOLDEN
    assert decode_offsets(OFFSETS_GOLDEN.decode()) == OFFSETS
    assert encode_epochs(EPOCHS) == EPOCHS_GOLDEN
    assert decode_epochs(EPOCHS_GOLDEN.decode()) == EPOCHS
    assert PartitionMetadata(TOPIC_ID).encode() == PARTITION_GOLDEN
    assert PartitionMetadata.decode(PARTITION_GOLDEN.decode()).topic_id == TOPIC_ID
    meta = MetaProperties.decode(META_GOLDEN.decode())
    assert meta == MetaProperties("MkU3OEVBNTcwNTJENDM2Qg", 1, 1, TOPIC_ID)
    assert meta.encode().splitlines()[2:] == META_GOLDEN.splitlines()[2:]
    assert CleanShutdown(7).encode() == b'{"version":0,"brokerEpoch":7}'


TOPICS = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=249)


@given(
    st.dictionaries(
        st.builds(TopicPartition, TOPICS, st.integers(0, 2**31 - 1)), st.integers(0, 2**63 - 1)
    )
)
def test_offsets_round_trip(offsets):
    assert decode_offsets(encode_offsets(offsets).decode()) == offsets


@given(
    st.lists(
        st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1)), unique_by=lambda e: e[0]
    )
)
def test_epochs_round_trip(pairs):
    epochs = sorted(epoch for epoch, _ in pairs)
    starts = sorted(start for _, start in pairs)
    entries = [EpochEntry(*pair) for pair in zip(epochs, starts, strict=True)]
    assert decode_epochs(encode_epochs(entries).decode()) == entries


@given(st.uuids())
def test_uuid_round_trip(value):
    assert len(encode_uuid(value)) == 22
    assert decode_uuid(encode_uuid(value)) == value


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.integers(-(2**31), 2**31 - 1)
)
def test_meta_properties_round_trip(cluster_id, node_id):
    cluster_id = "".join(cluster_id.split())
    for version in (0, 1):
        meta = MetaProperties(cluster_id, node_id, version)
        assert MetaProperties.decode(meta.encode().decode()) == meta


@pytest.mark.parametrize(
    "text",
    [
        "1\n0\n",
        "0\n2\norders 0 1\n",
        "0\n1\norders 0\n",
        "0\n1\norders x 1\n",
        "0\nmany\n",
        "0\n1\norders 0 -1\n",
        "0\n1\norders 0 99999999999999999999\n",
        "x",
        "0\n1\na 0 1\nb 0 1\n",
        "0\n1\n\n",
    ],
)
def test_malformed_offsets_name_the_file(text):
    with pytest.raises(CorruptLogError) as raised:
        decode_offsets(text, path="/somewhere/checkpoint")
    assert raised.value.path == "/somewhere/checkpoint"
    with pytest.raises(CorruptLogError):
        decode_epochs(text.replace("orders ", ""), path="/somewhere/checkpoint")


def test_files_that_kafka_has_just_made_are_empty():
    assert decode_offsets("") == {}
    assert decode_offsets("0\n") == {}
    assert decode_epochs("0\n0\n") == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version: 1\ntopic_id: jzscXi1KTm-bGgwtPk9aaw",
        "version: 0\n",
        "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA",
        "version: 0\ntopic_id: short",
        "junk",
    ],
)
def test_malformed_partition_metadata(text):
    with pytest.raises(CorruptLogError):
        PartitionMetadata.decode(text)


@pytest.mark.parametrize(
    "text",
    [
        "version=2\nnode.id=1\n",
        "version=1\n",
        "version=0\nbroker.id=x\n",
        "version=1\nnode.id=1\ndirectory.id=?\n",
    ],
)
def test_malformed_meta_properties(text):
    with pytest.raises(CorruptLogError):
        MetaProperties.decode(text)


def test_arguments_are_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "checkpoint"
    for bad in (
        {TopicPartition("a b", 0): 1},
        {TopicPartition("a", -1): 1},
        {TopicPartition("a", 0): -1},
    ):
        with pytest.raises(InvalidArgumentError):
            write_offsets(path, bad)
    for entries in ([EpochEntry(1, 5), EpochEntry(1, 6)], [EpochEntry(1, 5), EpochEntry(2, 4)]):
        with pytest.raises(InvalidArgumentError):
            write_epochs(path, entries)
    assert not path.exists()


def test_files(tmp_path):
    offsets = tmp_path / "recovery-point-offset-checkpoint"
    assert read_offsets(offsets) == {}
    write_offsets(offsets, OFFSETS)
    assert offsets.read_bytes() == OFFSETS_GOLDEN
    assert read_offsets(offsets) == OFFSETS
    epochs = tmp_path / "leader-epoch-checkpoint"
    assert read_epochs(epochs) == []
    write_epochs(epochs, EPOCHS)
    assert read_epochs(epochs) == EPOCHS
    metadata = tmp_path / "partition.metadata"
    with pytest.raises(LogNotFoundError):
        PartitionMetadata.read(metadata)
    PartitionMetadata(TOPIC_ID).write(metadata)
    assert PartitionMetadata.read(metadata).topic_id == TOPIC_ID
    assert {file.name for file in tmp_path.iterdir()} == {offsets.name, epochs.name, metadata.name}


def test_clean_shutdown_mark_is_taken_once(tmp_path):
    path = tmp_path / ".kafka_cleanshutdown"
    assert CleanShutdown.take(path) is None
    CleanShutdown(9).write(path)
    assert CleanShutdown.take(path) == CleanShutdown(9)
    assert CleanShutdown.take(path) is None
    for content in (b"", b"[]", b'{"version":0}', b"\xff"):
        path.write_bytes(content)
        assert CleanShutdown.read(path) == CleanShutdown(-1)


def test_replace_reports_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    replace(path, b"old")
    with pytest.raises(LogNotFoundError):
        replace(tmp_path / "no such directory" / "file", b"new")
    (tmp_path / "file.tmp").mkdir()
    with pytest.raises(StorageError) as raised:
        replace(path, b"new")
    assert path.read_bytes() == b"old"
    assert "file.tmp" in str(raised.value)


def test_replace_is_all_or_nothing_over_kill(tmp_path):
    """A child replaces the file for ever and is killed; what is there is one whole content."""
    path = tmp_path / "file"
    child = (
        "import sys\nfrom stratalog.storage import replace\n"
        "n = 0\n"
        "while True:\n    n += 1\n"
        "    replace(sys.argv[1], (b'%08d' % n) * 4000)\n"
        "    print(n, flush=True)\n"
    )
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", child, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        done = [int(process.stdout.readline()) for _ in range(5)][-1]
        process.kill()
        done = max([done, *(int(line) for line in process.stdout.read().split("\n")[:-1] if line)])
        process.stdout.close()
        process.wait()
        data = Path(path).read_bytes()
        assert len(data) == 32000
        assert data == data[:8] * 4000
        assert done <= int(data[:8]) <= done + 1
