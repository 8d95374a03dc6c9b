"""The types of a layout's columns in Parquet, from the declaration of its rows."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin
from typing import get_type_hints as type_hints

from pydantic import BaseModel

from feedback.export.layouts import ROWS

if TYPE_CHECKING:
    import pyarrow as pa

    from feedback.export.layouts import Layout


def schema(layout: Layout) -> pa.Schema:
    """Return the types of a layout's columns."""
    import pyarrow as pa  # noqa: PLC0415 - it takes 50 MB: only those who write Parquet pay

    return pa.schema(_columns(ROWS[layout]))


def _columns(row: type) -> list[tuple[str, pa.DataType]]:
    if issubclass(row, BaseModel):
        return [(name, _type(field.annotation)) for name, field in row.model_fields.items()]
    return [(name, _type(hint)) for name, hint in type_hints(row).items()]


def _type(hint: Any) -> pa.DataType:
    """Return the type of a column; an object of any names is JSON in a text."""
    import pyarrow as pa  # noqa: PLC0415

    kind, parts = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return _type(parts[0])
    if kind in {Union, UnionType}:
        (part,) = (each for each in parts if each is not NoneType)
        return _type(part)
    if kind is list:
        return pa.list_(_type(parts[0]))
    if kind in {Literal, dict}:
        return pa.string()
    scalars = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    return scalars.get(hint) or pa.struct(_columns(hint))
