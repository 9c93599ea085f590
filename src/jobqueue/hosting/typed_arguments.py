"""The type of a handler's first parameter: which columns or payload it wants, and how one is made of what was read."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from jobqueue.errors import ConfigurationError, Permanent
from jobqueue.hosting.column_types import name_of

if TYPE_CHECKING:
    from collections.abc import Mapping

# Problems of one row or payload that its error message names.
_MOST_NAMED = 5


class TypedArgument:
    """What `form`, a dataclass, a pydantic model or for a payload any type, is made of, and how.

    `columns` has the type of each value by the name that it is read under, or None for a type that has no fields.

    Raises ConfigurationError for a type that no value can be checked against.
    """

    def __init__(self, form: Any) -> None:
        self.name = name_of(form)
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(form)
            self.columns = _fields_of(form)
        except (PydanticUserError, NameError) as error:
            said = str(error).splitlines()[0]
            raise ConfigurationError([f"the type {self.name} cannot be checked against: {said}"]) from error

    def read(self, values: object, what: str) -> Any:
        """Make an instance of `values`. Raises Permanent, which says of each field what is wrong and never what it holds.

        `what` says what was read: "row" or "payload".
        """
        try:
            return self._adapter.validate_python(values)
        except ValidationError as error:
            raise Permanent(f"the {what} is no {self.name}: {_in_words(error)}") from None

    def row(self, columns: Mapping[str, Any]) -> Any:
        """Make an instance of those of a row's `columns` that the type names. Raises Permanent as `read` does."""
        wanted = self.columns or {}
        return self.read({name: columns[name] for name in wanted}, "row")


def _fields_of(form: Any) -> dict[str, Any] | None:
    """The types of a dataclass's or a model's fields, by the names that they are read under."""
    if not isinstance(form, type):
        return None
    fields: dict[str, Any] | None = getattr(form, "model_fields", None) or getattr(form, "__pydantic_fields__", None)
    if fields is not None:
        return {_name_of(form, name, field): field.annotation for name, field in fields.items()}
    if not dataclasses.is_dataclass(form):
        return None
    hints = get_type_hints(form)
    return {field.name: hints[field.name] for field in dataclasses.fields(form) if field.init}


def _name_of(form: type, name: str, field: Any) -> str:
    alias = field.validation_alias if field.validation_alias is not None else field.alias
    if alias is not None and not isinstance(alias, str):
        raise ConfigurationError(
            [f"the field {name} of {form.__name__} has an alias that is no name: a column has one name"]
        )
    return alias or name


def _in_words(error: ValidationError) -> str:
    # Without the inputs: a row or a payload may hold what no log may.
    found = error.errors(include_url=False, include_context=False, include_input=False)
    named = [
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" if problem["loc"] else problem["msg"]
        for problem in found[:_MOST_NAMED]
    ]
    if more := len(found) - len(named):
        named.append(f"and {more} more")
    return "; ".join(named)
