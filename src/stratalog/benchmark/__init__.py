"""The benchmark harness: this log beside its peers and above the floors of the machine, in one run.

What it promises: floors first, peers interleaved with us round by round, the same payload bytes,
the same record and group sizes, three durability classes that are never mixed, medians with their
extremes, processor time beside each rate, and a checksum over every payload byte that any subject
stored. A subject that loses or alters a byte fails the run instead of winning it.

A tour, in the order worth reading:

    model.py          Workload, Measurement, Subject: the words the other files speak
    payload.py        the bytes that everybody stores, and their checksum
    child.py          one measurement in one fresh Python process
    peers_python.py   LMDB, RocksDB, SQLite and a bare file, as a Python program uses them
    peers_foreign.py  Chronicle Queue (JVM), raft-wal, tidwall/wal, bbolt (Go), by native drivers
    ours.py           this engine, as a C program and as a Python program use it
    floors.py         the native program stratalog-floors: what the hardware allows
    programs.py       where the native programs are
    machine.py        kernel, processor, file system
    extra.py          what only we are asked; extra_bodies.py does the Python part of it
    runner.py         interleaving, verification, and the Report of one run
    scorecard.py      what was asked of us, what a run saw, met or not
    report.py         ``run``: tables, JSON, chart

What it leaves to others: the command line, and tests: a test never asserts a time, and a benchmark
never hides one.
"""
