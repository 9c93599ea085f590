"""What happens on the platform: webhooks told of it, notifications expired, old rows archived."""
