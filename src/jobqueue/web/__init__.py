"""HTTP: the process answers about its health, readiness and metrics, and serves other people's schedulers and the backend."""
