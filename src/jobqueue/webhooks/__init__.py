"""Webhooks: each subscriber gets a signed POST for each event, again and again until it takes it."""
