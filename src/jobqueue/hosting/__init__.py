"""A host's own program: the queues and kinds that it has handlers for, with their types, and what goes around them."""
