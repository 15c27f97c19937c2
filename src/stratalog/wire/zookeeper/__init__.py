"""What ZooKeeper writes in Jute: to its clients, to its log, to its snapshots.

records.py    parts of others: Id, ACL, Stat; numbers: opcodes, error codes, permissions
messages.py   requests and replies, client to server and back
txns.py       what a request became: the payloads of log records and proposals
txn_log.py    the bytes of a transaction log file
snapshot.py   the bytes of a snapshot file
"""
