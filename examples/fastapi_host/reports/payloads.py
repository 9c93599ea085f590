"""What the endpoints and the handlers say to each other."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel


class WriteReport(BaseModel):
    """The payload of a job of the kind `report`."""

    report_id: int
    month: date
