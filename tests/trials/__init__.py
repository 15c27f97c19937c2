"""Reliability trials: programs that are killed, starved and lied to while they write a log.

    python -m tests.trials ROW|all [--quick] [--seed N] [--trials N] [--json FILE]

    row  what is done to the log                              what must hold afterwards
    -----------------------------------------------------------------------------------------------
      1  kill -9 at random times                              every append that returned is there
      2  kill -9 before every single system call              before or after, never between
      3  power loss: shutdown of the file system              everything durable is there
      4  power loss: lost, reordered and torn block writes    the same
      5  the tail torn: cut, zeros, garbage, stale batches    the longest sound prefix, no more
      6  every bit flipped, one at a time                     no wrong byte, no silent cut
      8  full file systems; ENOSPC at every call              clean error, readable, goes on later
      9  EIO from every sync; a device that fails             fails closed, acknowledges no more
     10  address space that ends somewhere                    an error, no crash, no damage
     11  another program shortens a mapped file               an error in that call
     12  readers racing roll, truncation and close            no report from ThreadSanitizer

The same done to a coordination server, a hundred higher:

    101  kill -9 at random times, under writers               every write answered is there, nothing
    103  power loss: shutdown of the file system              that was not sent
    105  its last log torn at every byte, sectors lost        the longest sound prefix, no more
    106  every bit of logs and snapshots flipped              the same tree, or told where
    108  full file systems                                    ends with the reason, goes on later
    109  EIO from every sync                                  ends with the reason, answers no more
    125  malformed frames; files that lie                     the right error, or a closed door
    126  lengths and counts that lie, little that asks much   the same, and memory stays bounded
    128  connections by the thousand, or that never get on    turned away or closed, not more
    129  watchers that do not read, writers faster than disks memory stays bounded, all is answered
    134  znodes too deep, too many, too long, too short-lived limits hold with the right error
    135  watches by the hundred thousand                      each event once, in order, if readable

The numbers are those of the project's reliability scorecard.  Each row counts the faults that
really fired (none is a failure) and is run a second time on a copy of the engine with a bug planted
in it, which it must catch: a trial that cannot fail shows nothing.  All randomness comes from the
seed, but for the scheduler's and the disk's own.

    facts.h   what a record is, and the facts that a victim tells
    victim.c  writes a log and tells         check.c  holds the directory against the facts
    torn.c, flips.c                          rows whose trials are too many for a process each
    build.py  compiles engine and programs   bench.py what rows share
    disk.py   file systems to break          recorder.py  the disk that remembers (nbdkit)
    service.py  the victim that is a coordination server      traffic.py  clients that know
    damage.py   rows 105 and 106                              planted.py  bugs in Python modules
    hostile.py  servers under attack                          mangled.py  files of row 125
    rowNN_*.py  one row each: `run(bench)`

A row that cannot run here (no root, no loop devices, no strace) says why and is skipped, not
passed.
"""
