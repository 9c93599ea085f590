"""Text from elsewhere, made safe to write to a terminal or a log."""

from __future__ import annotations


def printable(text: str) -> str:
    """Escape what would move the cursor, colour the screen or start a line of its own."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
