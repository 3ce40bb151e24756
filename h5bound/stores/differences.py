"""How metadata documents differ from the digests that were recorded, and from each other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def list_edited(recorded: Mapping[str, str], actual: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield key and difference of each metadata document whose digest is not the one that was recorded.

    Those of the root come last: they change with the others.
    """
    for key in sorted(recorded.keys() | actual.keys(), key=lambda key: ("/" not in key, key)):
        if key not in actual:
            yield key, "is missing"
        elif key not in recorded:
            yield key, "was added by another program"
        elif actual[key] != recorded[key]:
            yield key, "was changed by another program"


def list_differing_parts(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the names whose values are not the same JSON.

    >>> list_differing_parts({"a": 1, "b": 1, "c": [0]}, {"a": 1.0, "c": [0]})
    ['a', 'b']
    """
    return [
        name
        for name in sorted(one.keys() | other.keys())
        if name not in one or name not in other or not same_json(one[name], other[name])
    ]


def same_json(one: Any, other: Any) -> bool:
    """Return whether two values are the same JSON: 1, 1.0 and true are three.

    >>> same_json({"a": (1,)}, {"a": [1]}), same_json(1, True)
    (True, False)
    """
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
