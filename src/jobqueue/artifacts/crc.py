"""The CRC-32 of a file from those of its pieces, which may have been read in any order."""

from __future__ import annotations

from functools import cache

_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31


def combine(first: int, second: int, second_bytes: int) -> int:
    """The CRC-32 of two pieces one after the other, from the CRC-32 of each and the length of the second in bytes.

    Appending n zero bytes multiplies by x^8n modulo the polynomial (zlib's crc32_combine, which Python does not expose).
    """
    return _times(_power(second_bytes, 3), first) ^ second


def _times(a: int, b: int) -> int:
    """a(x) b(x) modulo the polynomial; bits are reflected, the highest stands for x^0."""
    product = 0
    bit = _ONE
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


@cache
def _square(k: int) -> int:
    """x^(2^k) modulo the polynomial."""
    if k == 0:
        return _ONE >> 1
    root = _square(k - 1)
    return _times(root, root)


def _power(n: int, k: int) -> int:
    """x^(n 2^k) modulo the polynomial."""
    result = _ONE
    while n:
        if n & 1:
            result = _times(_square(k), result)
        n >>= 1
        k += 1
    return result
