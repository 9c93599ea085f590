"""The environment: read once at start, typed, checked as a whole, and safe to print."""

from jobqueue.settings.database_url import DatabaseUrl
from jobqueue.settings.environment import BackendAccess, MediaSettings, Settings, load_settings
from jobqueue.settings.secret import Secret

__all__ = ["BackendAccess", "DatabaseUrl", "MediaSettings", "Secret", "Settings", "load_settings"]
