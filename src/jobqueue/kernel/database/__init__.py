"""The kernel's connections, and the statements that travel on them."""
