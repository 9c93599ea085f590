"""Retention of what is old: notifications expire, events and notifications are archived, finished jobs are deleted."""
