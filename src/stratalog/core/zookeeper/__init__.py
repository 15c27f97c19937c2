r"""ZooKeeper's machines.

standalone   one server: requests in; transactions to persist, replies and events out
|  \
       |   prepare    a write is decided: against the tree and what is on its way to it
|     |
|   reads      a read is answered
|     |
+-- tree       znodes, and transactions applied to them     watches   who wants to know
|    \                                                 sessions  who is there
acls   quotas                                             identity  who somebody is
"""
