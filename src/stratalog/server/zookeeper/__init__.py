"""The coordination service: a ZooKeeper to its clients and its files.

server.py       runs the machine (core): persist, then speak
connection.py   one client's connection
recovery.py     the tree that snapshots and logs hold
"""
