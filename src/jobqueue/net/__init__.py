"""Talking HTTP to others: connection pools, downloads under limits, and the words for what went wrong."""
