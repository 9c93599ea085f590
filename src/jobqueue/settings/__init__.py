"""The environment, read once at start: typed, checked as a whole, and safe to print."""

from jobqueue.settings.database import DatabaseUrl
from jobqueue.settings.model import BackendSettings, MediaSettings, Settings, load_settings
from jobqueue.settings.secret import Secret

__all__ = ["BackendSettings", "DatabaseUrl", "MediaSettings", "Secret", "Settings", "load_settings"]
