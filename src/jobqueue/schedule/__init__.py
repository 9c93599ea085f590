"""Schedules: rows of a table whose ticks become jobs, once each, however many processes look at them.

There is no leader. Every process works out when each schedule ticks next and asks the database, in one statement, to make
the tick's job. The row's `next_tick_at` and a unique (schedule, tick) decide who was first (sql/0006_schedules.sql). The clock is
the database's. docs/decisions/0005-schedules.md tells the whole story.
"""
