from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jobqueue.demo import demo_sources

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0" * 64


def test_it_finds_pictures_at_any_depth_and_nothing_else(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(PNG)
    folder = tmp_path / "my pictures"
    (folder / "Ferien ☀" / "2024").mkdir(parents=True)
    (folder / ".thumbnails").mkdir()
    for name in ("b.PNG", "Ferien ☀/2024/ä b & c.png", ".hidden.png", ".thumbnails/t.png", "notes.txt"):
        (folder / name).write_bytes(PNG)
    (folder / "text.jpg").write_text("no picture, but it says so itself")
    (folder / "link.png").symlink_to(outside)
    (folder / "folder.png").mkdir()
    (folder / os.fsdecode(b"broken-\xff.png")).write_bytes(PNG)

    found = demo_sources.collect(folder)

    assert [(source.key, source.about) for source in found] == [
        ("b.PNG", "PNG"),
        ("text.jpg", "not a picture"),
        ("Ferien ☀/2024/ä b & c.png", "PNG"),
    ]
    assert found[2].name == "ä b & c.png"
    assert found[2].size == len(PNG)
    assert found[2].mime_type == "image/png"


def test_it_stops_at_a_sane_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_sources, "MOST_FILES", 3)
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(PNG)
    assert [source.key for source in demo_sources.collect(tmp_path)] == ["0.png", "1.png", "2.png"]
