"""HTTP to others: connection pools, downloads under limits, retries, and plain words for what went wrong."""
