"""What every config is: immutable, validated, and each failure one line that begins with the field and its value."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import pydantic

from ppodd.errors import BadInput, unknown


class Config(pydantic.BaseModel):
    """Fields, each named as the flag that sets it.

    Attributes:
        listed: where users find them all.
        sections: titles that part the fields in the help, each by the first field under it.
        retired: fields that earlier versions had and archives still hold, with the value that had no effect.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", validate_default=True)
    listed: ClassVar[str] = ""
    sections: ClassVar[dict[str, str]] = {}
    retired: ClassVar[dict[str, Any]] = {}


class WrittenConfig(Config):
    """A config as users write it: an error of a name in it says of which field it is."""

    @pydantic.field_validator("*", mode="wrap")
    @classmethod
    def _blamed(cls, value: Any, handler: pydantic.ValidatorFunctionWrapHandler, info: pydantic.ValidationInfo) -> Any:
        """A `BadInput` that a field's own check raises is of that field."""
        try:
            return handler(value)
        except BadInput as error:
            error.field = error.field or info.field_name or ""
            raise


C = TypeVar("C", bound=Config)


def build(kind: type[C], values: dict[str, Any]) -> C:
    """A validated config of `kind`; every failure is one line of `BadInput`."""
    for key in values:
        if key not in kind.model_fields:
            error = unknown("config field", key, kind.model_fields, kind.listed)
            error.field = key
            raise error
    try:
        return kind(**values)
    except pydantic.ValidationError as error:
        errors = error.errors()
        within = {e["loc"][:-1] for e in errors if e["loc"]}  # a list whose values are wrong is not also too short
        field = next((str(e["loc"][0]) for e in errors if e["loc"]), "")
        raise BadInput("; ".join(said(e) for e in errors if e["loc"] not in within), field) from None


def said(error: Any) -> str:
    """One of pydantic's errors in one line that begins with the field and its value."""
    *names, last = [str(part) for part in error["loc"] if part != "[key]"] or ["config"]
    field = ".".join(names if names and last.isdigit() else [*names, last])
    return f"{field}={error['input']!r}: {_reason(error)}"


def _reason(error: Any) -> str:
    match error["type"]:
        case "tuple_type" | "list_type" if isinstance(error["input"], (int, float, str)):
            return f"accepted is a list: write [{error['input']}]"
        case "tuple_type" | "list_type":
            return "accepted is a list: write [value, value]"
        case "dict_type" | "model_type":
            return "accepted are keys with their values: write {key: value}"
        case "too_short":
            return "name at least one"
    message = error["msg"].removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"
