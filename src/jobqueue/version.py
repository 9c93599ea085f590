"""The version of this package, for whoever says it: the package itself offers more, and imports more."""

from __future__ import annotations

from typing import Final

__version__: Final = "0.1.0"
