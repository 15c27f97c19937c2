"""Pure machines: a message, a time and a draw go in, effects come out.

No socket, no clock, no randomness, no disk, so that the same code runs in a server and in a seeded
simulator.  Formats come from ``wire``.
"""
