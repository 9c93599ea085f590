"""Reports that are written by jobs."""
