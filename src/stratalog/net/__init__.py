"""Bytes between machines: an event loop, frames, TLS.  No protocol is known here.

loop.py     the event loop: uvloop where it is installed, asyncio's own elsewhere
listener.py a port where connections are taken in only while there is room
frames.py   a connection that carries frames: 4 bytes of length, then the body, both ways
"""
