"""Disk adapters above the engine: small files that are replaced whole, in Kafka's own formats.

    atomic_file.py   one writer for all of them: write aside, sync, rename, sync the directory
    checkpoints.py   recovery-point-, log-start-, replication- and cleaner-offset-checkpoint,
                     leader-epoch-checkpoint
    metadata.py      partition.metadata, meta.properties, .kafka_cleanshutdown

What it leaves to others: when a file is written (the server), and the log itself (log/, native/).
"""

from stratalog.storage.atomic_file import read_text, replace
from stratalog.storage.checkpoints import (
    EpochEntry,
    TopicPartition,
    decode_epochs,
    decode_offsets,
    encode_epochs,
    encode_offsets,
    read_epochs,
    read_offsets,
    write_epochs,
    write_offsets,
)
from stratalog.storage.metadata import (
    CleanShutdown,
    MetaProperties,
    PartitionMetadata,
)

__all__ = [
    "CleanShutdown",
    "EpochEntry",
    "MetaProperties",
    "PartitionMetadata",
    "TopicPartition",
    "decode_epochs",
    "decode_offsets",
    "encode_epochs",
    "encode_offsets",
    "read_epochs",
    "read_offsets",
    "read_text",
    "replace",
    "write_epochs",
    "write_offsets",
]
