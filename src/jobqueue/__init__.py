"""Your Postgres table is the queue: a worker daemon for media publishing and delivery."""

__version__ = "0.1.0"
