"""This project's queue beside those that a team would pick instead, and beside raw pgbench: one command, one table."""
