"""The web application: uvicorn reports.main:api."""

from __future__ import annotations

from datetime import date

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import text

import jobqueue
from reports.database import Transaction
from reports.payloads import WriteReport

api = FastAPI()


class Wanted(BaseModel):
    """What somebody asks for."""

    month: date


class Report(BaseModel):
    """A report, and how far it is: `pending`, `processing`, `completed`, `failed` or `cancelled`."""

    id: int
    status: str
    text: str | None = None
    error: str | None = None


@api.post("/reports", status_code=202)
async def ask(wanted: Wanted, session: Transaction) -> Report:
    """Insert the report and its job in one transaction."""
    inserted = await session.execute(text("INSERT INTO reports (month) VALUES (:month) RETURNING id"), dict(wanted))
    report_id: int = inserted.scalar_one()
    job_id = await jobqueue.enqueue(session, "report", WriteReport(report_id=report_id, month=wanted.month))
    await session.execute(text("UPDATE reports SET job_id = :job WHERE id = :id"), {"job": job_id, "id": report_id})
    return Report(id=report_id, status="pending")


@api.get("/reports/{report_id}")
async def show(report_id: int, session: Transaction) -> Report:
    """The report, and what became of its job."""
    found = await session.execute(
        text(
            "SELECT r.id, j.status, r.text, j.error_message AS error"
            " FROM reports AS r JOIN jobs AS j ON j.id = r.job_id WHERE r.id = :id"
        ),
        {"id": report_id},
    )
    row = found.mappings().one_or_none()
    if row is None:
        raise HTTPException(404, "there is no such report")
    return Report.model_validate(dict(row))
