"""What tests of webhooks work with: see tests/webhooks/helpers.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.webhooks.helpers import Yard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.host import Host


@pytest.fixture
def yard(shared_host: Host) -> Iterator[Yard]:
    yard = Yard(shared_host.dsn)
    yield yard
    yard.clear()
