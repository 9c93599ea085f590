"""What `jobqueue worker --app shop.worker:app` imports: the handlers, once Django is ready for them."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

from shop.jobs import app  # noqa: E402 - the models need Django first

__all__ = ["app"]
