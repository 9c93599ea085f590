from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.artifacts.entry_names import LONGEST, Names, artifact_name, ascii_name, content_disposition, entry_name


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("IMG_0001.JPG", "IMG_0001.JPG"),
        ("Fe\u0302te d'e\u0301te\u0301.jpg", "Fête d'été.jpg"),
        ("../../etc/passwd", "passwd"),
        ("/absolute/photo.jpg", "photo.jpg"),
        (r"C:\Users\me\photo.jpg", "photo.jpg"),
        ("C:photo.jpg", "C_photo.jpg"),
        ('a<b>c:d"e|f?g*h.jpg', "a_b_c_d_e_f_g_h.jpg"),
        ("a\0b\nc\x7f.jpg", "a_b_c_.jpg"),
        ("gpj.\u202egnp.exe", "gpj.gnp.exe"),
        ("trailing. . ", "trailing"),
        ("  spaces.jpg  ", "spaces.jpg"),
        (".htaccess", "_htaccess"),
        ("~user.jpg", "_user.jpg"),
        ("CON", "CON_"),
        ("con.jpg", "con_.jpg"),
        ("Com1.tar.gz", "Com1_.tar.gz"),
        ("LPT².txt", "LPT²_.txt"),
        ("nul .txt", "nul_.txt"),
        ("CONSOLE.jpg", "CONSOLE.jpg"),
        ("..", "key.jpg"),
        ("...", "key.jpg"),
        ("___", "key.jpg"),
        ("", "key.jpg"),
        (None, "key.jpg"),
        ("folder/", "folder"),
        ("👨‍👩‍👧.jpg", "👨‍👩‍👧.jpg"),
    ],
)
def test_names_are_made_safe(filename: str | None, expected: str) -> None:
    assert entry_name(filename, "some/key.jpg") == expected


def test_a_file_without_any_name_has_one() -> None:
    assert entry_name(None, "") == "file"


@pytest.mark.parametrize("filename", ["x" * 500 + ".jpeg", "字" * 300 + ".jpeg", "🎉" * 300 + ".jpeg"])
def test_long_names_are_cut_before_their_ending(filename: str) -> None:
    name = entry_name(filename, "key")
    assert name.endswith(".jpeg")
    assert len(name.encode("utf-16-le")) // 2 <= LONGEST
    assert len(name.encode()) <= 240


@given(st.text(), st.text())
def test_every_name_is_one_that_every_system_takes(filename: str, key: str) -> None:
    name = entry_name(filename, key)
    assert name
    assert name == unicodedata.normalize("NFC", name)
    assert not set(name) & set('<>:"/\\|?*')
    assert not any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in name)
    assert not name.startswith((".", "~", " "))
    assert not name.endswith((".", " "))
    assert name.partition(".")[0].rstrip().upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9"}
    assert len(name.encode()) <= 245
    assert name == entry_name(name, "")


def test_repetitions_are_numbered_whatever_their_case_or_accents() -> None:
    names = Names("MISSING.txt")
    given_names = [
        "a.jpg",
        "A.JPG",
        "a.jpg",
        "a (2).jpg",
        "é.png",
        "E\u0301.png",
        "straße",
        "STRASSE",
        "missing.TXT",
        "\u0131.x",
        "I.x",
    ]
    assert [names.unique(name) for name in given_names] == [
        "a.jpg", "A (2).JPG", "a (3).jpg", "a (2) (2).jpg", "é.png", "E\u0301 (2).png", "straße", "STRASSE (2)",
        "missing (2).TXT", "\u0131.x", "I (2).x",
    ]  # fmt: skip


def test_many_repetitions_take_no_longer_each() -> None:
    names = Names()
    assert [names.unique("same.jpg") for _ in range(20_000)][-1] == "same (20000).jpg"


@given(st.lists(st.sampled_from(["a", "A", "a (2)", "A (2)", "é", "e\u0301", "a (3)", "x" * 200]), max_size=30))
def test_no_two_names_are_the_same_to_anybody(given_names: list[str]) -> None:
    names = Names()
    unique = [names.unique(entry_name(name, "")) for name in given_names]
    assert len({unicodedata.normalize("NFC", name).casefold() for name in unique}) == len(unique)
    assert all(len(name) <= LONGEST for name in unique)


@pytest.mark.parametrize(
    ("project", "kind", "expected"),
    [
        ("Sommerfest 2025", "ALL", "Sommerfest 2025.zip"),
        ("Sommerfest", "PHOTOS_ONLY", "Sommerfest photos.zip"),
        ("a/b\\c", "VIDEOS_ONLY", "a-b-c videos.zip"),
        (None, "ALL", "download.zip"),
        ("  ", "ALL", "download.zip"),
        ("CON", "ALL", "CON_.zip"),
        ("v1.2", "ALL", "v1.2.zip"),
    ],
)
def test_the_artifacts_own_name(project: str | None, kind: str, expected: str) -> None:
    assert artifact_name(project, kind) == expected


def test_header_and_key_carry_the_name() -> None:
    assert content_disposition('Fête "1" 100%.zip') == (
        "attachment; filename=\"Fete_1_100.zip\"; filename*=UTF-8''F%C3%AAte%20%221%22%20100%25.zip"
    )
    assert ascii_name("写真.zip") == "download.zip"


@given(st.text(max_size=150))
def test_header_is_always_one(project: str) -> None:
    header = content_disposition(artifact_name(project, "ALL"))
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
