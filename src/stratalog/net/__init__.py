"""Bytes between machines: an event loop, frames, TLS.  No protocol is known here.

loop.py     the event loop: uvloop where it is installed, asyncio's own elsewhere
frames.py   a connection that carries frames: 4 bytes of length, then the body, both ways
"""
