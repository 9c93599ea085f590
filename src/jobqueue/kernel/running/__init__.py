"""Runs leased jobs, and records their outcomes."""
