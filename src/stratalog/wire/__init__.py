"""Wire and file formats that are not native: bytes to frozen dataclasses and back.

jute.py       ZooKeeper's serialization: how a field becomes bytes
zookeeper/    the records written in it: requests and replies, transactions, what snapshots hold
"""
