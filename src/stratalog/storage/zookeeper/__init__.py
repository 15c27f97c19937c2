"""ZooKeeper's directories: transaction logs and snapshots, as Apache's server keeps them.

    DATA_LOG_DIR/version-2/log.<first zxid>          appended, synced in groups, never reopened
    DATA_DIR/version-2/snapshot.<zxid>[.gz|.snappy]  written aside, synced, renamed
    DATA_DIR/myid

    txn_log.py      writing logs, and reading them one after the other
    snapshots.py    writing snapshots slice by slice, finding and reading the newest sound one
    purge.py        removing what no restart needs

What a transaction means is the tree's affair (core); who puts both together is the server's.
"""
