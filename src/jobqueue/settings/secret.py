"""A secret, which may be in rotation: compared in constant time, never printed."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from pydantic_core import core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

MASK: Final = "*" * 10


class Secret:
    """One secret, or two separated by a comma while it is being rotated: both are accepted, the first is sent."""

    __slots__ = ("_accepted",)

    SHORTEST: ClassVar[int] = 8
    """Characters that each value must have at least. A shorter one is guessed, and found in ordinary words of a log."""

    def __init__(self, text: str) -> None:
        """Split `text` at its comma. Raises ValueError, without quoting the text, when it cannot be a secret."""
        values = tuple(value.strip() for value in text.split(","))
        if len(values) > 2:
            raise ValueError("holds more than two values; a secret in rotation is new,old")
        if not all(values):
            raise ValueError("has an empty value beside its comma")
        # Every secret travels in a header sooner or later; anything else would be refused there, or split the header.
        if not all(value.isascii() and value.isprintable() for value in values):
            raise ValueError("must be printable ASCII")
        self._accepted = values

    @classmethod
    def read(cls, text: str) -> Self:
        """The secret that somebody has set. Raises ValueError as the constructor does, and for one that is too short."""
        secret = cls(text)
        if min(map(len, secret.accepted)) < cls.SHORTEST:
            raise ValueError(f"must have at least {cls.SHORTEST} characters")
        return secret

    @property
    def first(self) -> str:
        """The value to send."""
        return self._accepted[0]

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every value to accept, the one to send first."""
        return self._accepted

    def matches(self, candidate: str | bytes | None) -> bool:
        """Whether `candidate` is an accepted value. The time depends neither on the candidate nor on a match."""
        given = candidate.encode("utf-8", "surrogateescape") if isinstance(candidate, str) else candidate or b""
        # Digests have one length, so the comparison does not tell the length of the secret either. The sum visits every
        # accepted value; any() would stop at the first match.
        digest = sha256(given).digest()
        return sum(hmac.compare_digest(digest, sha256(value.encode()).digest()) for value in self._accepted) > 0

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._accepted == other._accepted

    def __hash__(self) -> int:
        return hash(self._accepted)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[Any], handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.read(str(value)),
            serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json"),
        )


class KeyName(Secret):
    """The name of a key: no secret by itself, so that it may be short. It is kept out of all output like one."""

    __slots__ = ()

    SHORTEST: ClassVar[int] = 1
