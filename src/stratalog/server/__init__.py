"""Servers: the only floor where a pure machine meets a socket or a disk."""
