"""Reads times that PostgreSQL can hold and Python cannot: `infinity`, years before 1 and after 9999, 24:00.

A host may write any of them into any row. The driver refuses them, and one such row would stop whatever reads many.
Each is read as the nearest value that there is: `infinity` as moments.NEVER, `-infinity` as moments.LONG_AGO.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

import psycopg
from psycopg.types.datetime import DateLoader, IntervalLoader, TimeLoader, TimestampLoader, TimestamptzLoader

from jobqueue.moments import LONG_AGO, NEVER

if TYPE_CHECKING:
    from psycopg.abc import Buffer
    from psycopg.adapt import AdaptersMap


def register_time_loaders(adapters: AdaptersMap) -> None:
    """Have whatever is read through `adapters` read by these, also in arrays and ranges."""
    adapters.register_loader("timestamptz", _Timestamptz)
    adapters.register_loader("timestamp", _Timestamp)
    adapters.register_loader("date", _Date)
    adapters.register_loader("time", _Time)
    adapters.register_loader("interval", _Interval)


def _is_early(data: Buffer) -> bool:
    text = bytes(data)
    return text.startswith(b"-") or text.endswith(b"BC")


class _Timestamptz(TimestamptzLoader):
    def load(self, data: Buffer) -> datetime:
        try:
            moment = super().load(data)
            # Within a day of either end the year may be another one in UTC.
            return moment if 1 < moment.year < 9999 else moment.astimezone(UTC)
        except (psycopg.DataError, OverflowError):
            return LONG_AGO if _is_early(data) or data[:4] == b"0001" else NEVER


class _Timestamp(TimestampLoader):
    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except psycopg.DataError:
            return (LONG_AGO if _is_early(data) else NEVER).replace(tzinfo=None)


class _Date(DateLoader):
    def load(self, data: Buffer) -> date:
        try:
            return super().load(data)
        except psycopg.DataError:
            return date.min if _is_early(data) else date.max


class _Time(TimeLoader):
    def load(self, data: Buffer) -> time:
        try:
            return super().load(data)
        except psycopg.DataError:
            return time.max


class _Interval(IntervalLoader):
    def load(self, data: Buffer) -> timedelta:
        # The driver's pattern matches nothing of `infinity`, and calls that no time at all.
        if bytes(data).endswith(b"infinity"):
            return timedelta.min if _is_early(data) else timedelta.max
        try:
            return super().load(data)
        except psycopg.DataError:
            return timedelta.min if _is_early(data) else timedelta.max
