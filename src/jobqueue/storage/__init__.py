"""The S3-compatible object store: whole objects, multipart uploads, and what its errors mean for a job."""
