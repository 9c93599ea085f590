"""Webhooks: each event becomes a signed POST to whoever subscribed, tried again until it is taken."""
