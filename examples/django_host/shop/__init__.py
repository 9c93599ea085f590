"""A shop whose orders send receipts."""
