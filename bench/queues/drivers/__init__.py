"""Drivers: one program a peer, run in the peer's own environment, all with the same commands (see protocol.py).

What a driver imports must be in that environment: its peer, the standard library, and this folder.
"""
