"""Reads a file of variables, in the form that Docker's --env-file and systemd's EnvironmentFile= share: NAME=value, a line each.

No shell reads it: an ampersand or a dollar sign in a URL means itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from jobqueue.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTED: Final = re.compile(r"""'(?P<plain>[^']*)'|"(?P<escaped>(?:[^"\\]|\\.)*)\"""", re.DOTALL)
_ESCAPE: Final = re.compile(r'\\(["\\$`])')


def read_env_file(path: Path) -> dict[str, str]:
    """Give the variables of the file by name; of one that stands there twice the last value.

    Empty lines and those that begin with # or ; say nothing. Quotation marks around a whole value are taken off, as systemd
    does. Raises ConfigurationError with one line per problem, none of which holds a value.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError([f"--env-file {path} cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"--env-file {path} is not UTF-8 text"]) from error
    found: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        name, sign, value = stripped.partition("=")
        if not sign or not _NAME.fullmatch(name.rstrip()):
            hint = ", without export" if stripped.startswith("export ") else ""
            problems.append(f"--env-file {path} line {number} must be NAME=value{hint}")
        elif "\0" in value:
            problems.append(f"--env-file {path} line {number} holds a NUL character")
        else:
            found[name.rstrip()] = _unquoted(value.strip())
    if problems:
        raise ConfigurationError(problems)
    return found


def _unquoted(value: str) -> str:
    quoted = _QUOTED.fullmatch(value)
    if quoted is None:
        return value
    if quoted["plain"] is not None:
        return quoted["plain"]
    return _ESCAPE.sub(r"\1", quoted["escaped"])
