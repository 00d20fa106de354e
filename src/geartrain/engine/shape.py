"""What an item type looks like, as a hash: two ends whose hashes agree can read each other.

Only structure counts: names without their module, fields in their order, tags, and what is required. A type moved to
another module, or given a method, keeps its shape; a renamed or reordered field changes it.
"""

import hashlib
from enum import Enum
from typing import Any, get_origin

import msgspec
import msgspec.inspect

from geartrain.errors import BadType


def shape_of(item_type: Any) -> str:
    """16 hex digits for the structure of a type that msgspec can encode."""
    because = why_it_stays(item_type)
    if because is not None:
        raise BadType(f"{name_of(item_type)} cannot be the type of a channel's items: {because}")
    info = msgspec.inspect.type_info(item_type)
    return hashlib.blake2b(_text(info, ()).encode(), digest_size=8).hexdigest()


def name_of(item_type: Any) -> str:
    return item_type.__name__ if isinstance(item_type, type) and not hasattr(item_type, "__args__") else str(item_type)


def _text(part: Any, above: tuple[Any, ...]) -> str:
    """A canonical text of a piece of type information; a type inside itself is told by its name."""
    if isinstance(part, type):
        if any(part is outer for outer in above):
            return part.__name__
        if issubclass(part, Enum):
            return f"{part.__name__}({', '.join(f'{member.name}={member.value!r}' for member in part)})"
        return part.__name__
    if isinstance(part, tuple | list):
        return f"[{', '.join(_text(piece, above) for piece in part)}]"
    if isinstance(part, msgspec.inspect.Field):
        return f"{part.encode_name}{'' if part.required else '?'}: {_text(part.type, above)}"
    if isinstance(part, msgspec.inspect.Type):
        named = getattr(part, "cls", None)
        if named is not None and any(named is outer for outer in above):
            return str(named.__name__)
        inner = above if named is None else (*above, named)
        # Of a generic that is filled in, what it is filled with shows in its fields.
        named = get_origin(named) or named
        names = getattr(part, "__struct_fields__", ())
        pieces = (f"{name}={_text(getattr(part, name), inner)}" for name in names if name not in ("cls", "default"))
        title = type(part).__name__ if named is None else f"{type(part).__name__} {_text(named, above)}"
        return f"{title}({', '.join(pieces)})"
    return repr(part)


def why_it_stays(item_type: Any) -> str | None:
    """Why items of a type cannot be encoded, and so not leave their process; None when they can."""
    try:
        strange = _strange_part(msgspec.inspect.type_info(item_type), set())
    except TypeError as error:
        return str(error)
    return None if strange is None else f"there is no encoding for {name_of(strange)}"


def _strange_part(info: object, seen: set[type]) -> Any:
    """The first class inside of a type that msgspec has no encoding for."""
    if isinstance(info, msgspec.inspect.CustomType):
        return info.cls
    named = getattr(info, "cls", None)
    if named in seen:
        return None
    if isinstance(named, type):
        seen.add(named)
    parts = info if isinstance(info, tuple) else _fields(info)
    return next((strange for part in parts if (strange := _strange_part(part, seen)) is not None), None)


def _fields(info: object) -> list[object]:
    if not isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field):
        return []
    return [getattr(info, name) for name in info.__struct_fields__ if name not in ("cls", "default")]
