"""The S3-compatible object store."""
