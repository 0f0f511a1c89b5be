"""Reading what nobody promised: values out of answers whose shape differs between versions, or is a lie.

Everything here takes anything and returns something usable or nothing; it never raises.
"""

from __future__ import annotations

import re
from typing import Any, Final

from intertie.agent.inventory import LONGEST_NAME

MOST_SLOTS: Final = 1024
"""Exchanges at a time that one runtime is ever trusted with, whatever it says."""
_LARGEST: Final = 10**9

_EMBEDS: Final = re.compile(r"embed|(^|[/_-])(bge|gte|e5|minilm|arctic-embed)([-_.:]|$)", re.IGNORECASE)
_SEES: Final = re.compile(r"(^|[/_.\d-])(vl|vision|llava|pixtral|internvl|idefics\d?)([-_.:]|$)", re.IGNORECASE)
_QUANTISED: Final = re.compile(
    r"(?<![A-Za-z0-9])(I?Q\d(?:_[A-Z0-9]+)*|AWQ|GPTQ(?:-Int\d)?|FP8|NVFP4|MXFP4|INT[48]|BF16|F16|F32|[348]bit)(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_SIZED: Final = re.compile(r"(?<![A-Za-z0-9.])((?:\d{1,2}x)?\d{1,4}(?:\.\d{1,2})?)([bm])(?![A-Za-z0-9])", re.IGNORECASE)
_SAMPLE: Final = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(\{.*\})?\s+(\S+)")
_LABEL: Final = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="([^"\\]*)"')


def whole(value: object) -> int | None:
    """A count above zero, also from a float or digits; else nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = int(float(value))
    except (ValueError, OverflowError):
        return None
    return number if 0 < number <= _LARGEST else None


def word(value: object) -> str:
    """A short printable text; else an empty one."""
    return value if isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_NAME else ""


def members(value: object) -> dict[str, Any]:
    """An object; else an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[dict[str, Any]]:
    """The objects in an array; else none."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def words(value: object) -> list[str]:
    """The texts in an array; else none."""
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def slots(value: object) -> int | None:
    """A number of slots one may act on; else nothing."""
    number = whole(value)
    return None if number is None else min(number, MOST_SLOTS)


def size_word(count: object) -> str:
    """Parameters for people: 134515008 is `135M`, 8030261248 is `8.0B`."""
    number = count if isinstance(count, int | float) and not isinstance(count, bool) else 0
    if not 1e5 <= number <= 1e14:
        return ""
    return f"{number / 1e6:.0f}M" if number < 9.995e8 else f"{number / 1e9:.1f}B"


# -- what only a name tells --------------------------------------------------------------------------------------------


def embeds(name: str) -> bool:
    """The name is that of an embedding model."""
    return bool(_EMBEDS.search(name))


def sees(name: str) -> bool:
    """The name is that of a model that reads pictures."""
    return bool(_SEES.search(name))


def quantisation_in(name: str) -> str:
    """How the weights are quantised, if the name says so: `Q4_K_M`, `AWQ`, `FP8`."""
    found = _QUANTISED.search(name)
    return found[1].upper().replace("BIT", "bit") if found else ""


def parameters_in(name: str) -> str:
    """How large the model is, if the name says so: `8B`, `0.5B`."""
    found = _SIZED.search(name)
    return f"{found[1].lower()}{found[2].upper()}" if found else ""


# -- Prometheus' text format -------------------------------------------------------------------------------------------


def metric(text: str, suffix: str) -> float | None:
    """The sum of a metric's samples. Prefixes differ between versions (`vllm:`, `vllm_`), so the end must match."""
    found = [value for _, _, value in _samples(text, suffix) if abs(value) <= _LARGEST]
    return sum(found) if found else None


def count(text: str, *suffixes: str) -> int | None:
    """The sum of several metrics as a number of requests, of those that are there."""
    found = [value for suffix in suffixes if (value := metric(text, suffix)) is not None]
    return max(0, int(sum(found))) if found else None


def labels(text: str, suffix: str) -> list[dict[str, str]]:
    """The labels of a metric's samples."""
    return [dict(_LABEL.findall(block)) for _, block, _ in _samples(text, suffix)]


def _samples(text: str, suffix: str) -> list[tuple[str, str, float]]:
    found = []
    for line in text.splitlines():
        if suffix not in line or line.startswith("#"):
            continue
        sample = _SAMPLE.match(line)
        if sample is None or not (sample[1] == suffix or sample[1].endswith((f":{suffix}", f"_{suffix}"))):
            continue
        try:
            found.append((sample[1], sample[2] or "", float(sample[3])))
        except ValueError:
            continue
    return found
