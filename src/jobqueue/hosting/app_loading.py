"""Finds the App that a program was named with: MODULE:APP."""

from __future__ import annotations

import sys
import traceback
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from jobqueue.errors import ConfigurationError
from jobqueue.hosting.host_app import App

if TYPE_CHECKING:
    from types import ModuleType


def load_apps(names: list[str]) -> list[App]:
    """The apps that `names` name, each as MODULE:APP. Modules are looked for in the working directory first.

    Raises ConfigurationError with one line per problem.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    found: list[App] = []
    problems = []
    for name in dict.fromkeys(names):
        try:
            found.append(_load(name))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return found


def _load(name: str) -> App:
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise ConfigurationError(
            [f"--app {name}: it names a module and an App in it, for example --app billing.jobs:app"]
        )
    module = _imported(name, module_name)
    if not hasattr(module, attribute):
        known = [found for found, value in vars(module).items() if isinstance(value, App)]
        near = get_close_matches(attribute, known, 1) or known
        hint = f"; did you mean --app {module_name}:{near[0]}" if near else ""
        raise ConfigurationError([f"--app {name}: the module {module_name} has no {attribute}{hint}"])
    app = getattr(module, attribute)
    if not isinstance(app, App):
        raise ConfigurationError([f"--app {name}: {attribute} is of the type {type(app).__name__}, not jobqueue.App"])
    return app


def _imported(name: str, module_name: str) -> ModuleType:
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ConfigurationError(
                [f"--app {name}: there is no module {error.name} in {Path.cwd()} or where Python looks"]
            ) from error
        raise ConfigurationError([_raised(name, error)]) from error
    except Exception as error:
        raise ConfigurationError([_raised(name, error)]) from error


def _raised(name: str, error: Exception) -> str:
    """One line of what an import raised, with the place where it did."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):
        where = f" ({error.filename}, line {error.lineno})"
    text = str(error.msg if isinstance(error, SyntaxError) else error).partition("\n")[0]
    return f"--app {name}: to import it raised {type(error).__name__}: {text}{where}"
