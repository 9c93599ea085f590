"""A day of the product in which everybody comes by the role that is meant for him, and no administrator is a superuser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.hostile_settings.day import Day
from tests.support.daemon import launching

if TYPE_CHECKING:
    from pathlib import Path

    from tests.roles.helpers import Administered
    from tests.support.s3 import Bucket

pytestmark = [pytest.mark.slow, pytest.mark.extended]


def test_a_day(administered: Administered, bucket: Bucket, tmp_path: Path) -> None:
    with launching(tmp_path) as launch:
        Day(administered.dsn, administered.dsn, bucket, launch, tmp_path, administered.addresses).pass_()
