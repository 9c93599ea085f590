"""Connections of the kernel, and the statements that travel on them."""
