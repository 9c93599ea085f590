"""What the process answers over HTTP: health, readiness, metrics, and the routes that others add."""
