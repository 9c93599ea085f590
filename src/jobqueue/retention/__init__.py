"""What is old: notifications expire, events are archived, finished jobs are deleted."""
