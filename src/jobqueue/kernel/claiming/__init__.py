"""Decides which jobs are leased next, and how many."""
