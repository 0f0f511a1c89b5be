"""YAML text to plain values and back: safe constructors only, no key twice, no unbounded aliases."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final

import yaml

LONGEST: Final = 4 << 20
"""Characters of a configuration file."""
LARGEST: Final = 500_000
"""Values in it after aliases are followed; a few lines of nested aliases can stand for billions."""


class YamlError(ValueError):
    """The text cannot be read; the message says where."""


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, which YAML would let the last one win silently.

    Not PyYAML's loader in C, though it is four times as fast: deeply nested text ends the process there.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key_node.tag != "tag:yaml.org,2002:merge" and isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} appears twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)


def read(text: str) -> dict[str, Any]:
    """The mapping that the text holds; an empty text is an empty mapping. Raises `YamlError`."""
    if len(text) > LONGEST:
        raise YamlError(f"is longer than {LONGEST} characters")
    try:
        found = yaml.load(text, Loader=_Loader)  # noqa: S506 - derived from SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise YamlError(f"{where}{error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise YamlError(f"cannot be read as YAML: {type(error).__name__}") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise YamlError("must be a mapping with sections such as `upstreams:` and `routes:`")
    _bounded(found)
    return {str(key): value for key, value in found.items()}


def write(content: Mapping[str, Any]) -> str:
    """The mapping as YAML text that `read` reads, its innermost lists and mappings on one line each."""
    text: str = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    return text


def _bounded(root: object) -> None:
    waiting, count = [root], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > LARGEST:
            raise YamlError("its aliases stand for too many values")
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
