"""Disk adapters above the engine: small files that are replaced whole, in Kafka's own formats.

    atomic_file.py   one writer for all of them: write aside, sync, rename, sync the directory
    checkpoints.py   recovery-point-, log-start-, replication- and cleaner-offset-checkpoint,
                     leader-epoch-checkpoint
    metadata.py      partition.metadata, meta.properties, .kafka_cleanshutdown

What it leaves to others: when a file is written (the server), and the log itself (log/, native/).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
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

_HOMES: Final = {
    "atomic_file": ("read_text", "replace"),
    "metadata": ("CleanShutdown", "MetaProperties", "PartitionMetadata"),
}


def __getattr__(name: str) -> Any:
    """Load a part once somebody asks for it: the coordination service wants none of these."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "checkpoints")
    return getattr(import_module(f"{__name__}.{home}"), name)
