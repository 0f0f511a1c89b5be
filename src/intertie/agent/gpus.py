"""The graphics cards of a machine, asked of whoever knows: NVIDIA's library, Linux' sysfs, AMD's tool, macOS, Windows.

A card is {"name", "vendor", "memory_bytes", "memory_used_bytes", "utilisation" (0 to 1), "temperature" (Celsius)};
`None` is unknown. Readers raise only `Unreadable`; what they read is parsed by functions of text and folders.
"""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from intertie.agent.machine import nvidia
from intertie.agent.machine.command import output
from intertie.agent.machine.unreadable import Unreadable

Card = dict[str, Any]

DRM: Final = Path("/sys/class/drm")
NVIDIA: Final = Path("/proc/driver/nvidia/gpus")
PATIENCE: Final = 1.5
"""Seconds one tool may take."""
_VENDORS: Final = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
_TITLES: Final = {"nvidia": "NVIDIA GPU", "amd": "AMD GPU", "intel": "Intel GPU"}
_LARGEST: Final = 1 << 50
_DISPLAYS: Final = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"
_SMI: Final = "name,memory.total,memory.used,utilization.gpu,temperature.gpu"


def cards() -> list[Card]:
    """Every card that can be seen from here; none if nothing tells. Blocks for some seconds at worst."""
    if sys.platform == "darwin":
        return _tried(_of_macos)
    found = _tried(_of_nvml) or _tried(_of_nvidia_smi)
    others = of_windows(list(_registry())) if sys.platform == "win32" else of_drm(DRM, NVIDIA, _amd_names)
    return found + [card for card in others if not (found and card["vendor"] == "nvidia")]


def card(name: str, vendor: str, **known: Any) -> Card:
    """A card of which little is known."""
    blank: Card = {"memory_bytes": None, "memory_used_bytes": None, "utilisation": None, "temperature": None}
    return {"name": name, "vendor": vendor, **blank, **known}


def _tried(reader: Any) -> list[Card]:
    try:
        found: list[Card] = reader()
    except Unreadable:
        return []
    return found


# -- NVIDIA ------------------------------------------------------------------------------------------------------------


def _of_nvml() -> list[Card]:
    return of_nvml(nvidia.load())


def of_nvml(library: ModuleType | Any) -> list[Card]:
    """From pynvml. Raises `Unreadable` where the driver is not there."""
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        raise Unreadable(f"NVIDIA's driver cannot be asked: {error}") from None
    try:
        handles = [library.nvmlDeviceGetHandleByIndex(number) for number in range(library.nvmlDeviceGetCount())]
        return [_nvml_card(library, handle) for handle in handles]
    except library.NVMLError as error:
        raise Unreadable(f"NVIDIA's driver does not list its cards: {error}") from None


def _nvml_card(library: Any, handle: Any) -> Card:
    def told(ask: Any) -> Any:
        try:
            return ask()
        except library.NVMLError:
            return None  # not every card tells everything

    name = told(lambda: library.nvmlDeviceGetName(handle))
    memory = told(lambda: library.nvmlDeviceGetMemoryInfo(handle))
    rates = told(lambda: library.nvmlDeviceGetUtilizationRates(handle))
    heat = told(lambda: library.nvmlDeviceGetTemperature(handle, 0))
    return card(
        _name(name.decode(errors="replace") if isinstance(name, bytes) else name, "nvidia"),
        "nvidia",
        memory_bytes=None if memory is None else int(memory.total),
        memory_used_bytes=None if memory is None else int(memory.used),
        utilisation=None if rates is None else min(rates.gpu, 100) / 100,
        temperature=None if heat is None else float(heat),
    )


def _of_nvidia_smi() -> list[Card]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        raise Unreadable("there is no nvidia-smi")
    return of_nvidia_smi(output([tool, f"--query-gpu={_SMI}", "--format=csv,noheader,nounits"], PATIENCE))


def of_nvidia_smi(text: str) -> list[Card]:
    """From its lines of name, MiB in all, MiB used, percent, degrees; `[N/A]` where a card does not tell."""
    found = []
    for line in text.splitlines():
        columns = [column.strip() for column in line.split(",")]
        if len(columns) != _SMI.count(",") + 1:
            continue
        total, used, busy, heat = (_number(column) for column in columns[1:])
        found.append(
            card(
                _name(columns[0], "nvidia"),
                "nvidia",
                memory_bytes=None if total is None else int(total * (1 << 20)),
                memory_used_bytes=None if used is None else int(used * (1 << 20)),
                utilisation=None if busy is None else min(busy, 100.0) / 100,
                temperature=heat,
            )
        )
    return found


# -- Linux' own view ---------------------------------------------------------------------------------------------------


def of_drm(drm: Path, nvidia: Path, amd_names: Any) -> list[Card]:
    """From sysfs. `amd_names()` is asked for names by card number if the driver of an AMD card does not name it."""
    found: list[Card] = []
    for folder in sorted(drm.glob("card*"), key=lambda path: (len(path.name), path.name)):
        if not re.fullmatch(r"card\d+", folder.name):
            continue  # an outlet of a card, such as card0-HDMI-A-1
        device = folder / "device"
        vendor = _VENDORS.get(_line(device / "vendor"), "")
        if vendor:
            found.append(_drm_card(device, vendor, nvidia))
    nameless = [one for one in found if one["vendor"] == "amd" and one["name"].startswith(_TITLES["amd"])]
    if nameless:
        for one, name in zip(nameless, amd_names(), strict=False):
            one["name"] = name
    return found


def _drm_card(device: Path, vendor: str, nvidia: Path) -> Card:
    busy, heat = _number(_line(device / "gpu_busy_percent")), None
    for sensor in sorted(device.glob("hwmon/hwmon*/temp1_input")):
        heat = _number(_line(sensor))
    return card(
        _line(device / "product_name") or _nvidia_name(device, nvidia, vendor) or _unnamed(device, vendor),
        vendor,
        memory_bytes=_bytes(_line(device / "mem_info_vram_total")),
        memory_used_bytes=_bytes(_line(device / "mem_info_vram_used")),
        utilisation=None if busy is None else min(max(busy, 0.0), 100.0) / 100,
        temperature=None if heat is None else heat / 1000,
    )


def _nvidia_name(device: Path, nvidia: Path, vendor: str) -> str:
    if vendor != "nvidia":
        return ""
    try:
        text = (nvidia / device.resolve().name / "information").read_text(errors="replace")
    except OSError:
        return ""
    found = re.search(r"^Model:\s*(\S.*?)\s*$", text, re.MULTILINE)
    return found[1] if found else ""


def _unnamed(device: Path, vendor: str) -> str:
    """Without a table of all cards there are, the number by which one can be looked up."""
    return f"{_TITLES[vendor]} {_line(device / 'device')}".strip()


def _amd_names() -> list[str]:
    tool = shutil.which("rocm-smi") or shutil.which("rocm-smi", path="/opt/rocm/bin")
    if tool is None:
        return []
    try:
        return of_rocm_smi(output([tool, "--showproductname", "--json"], PATIENCE))
    except Unreadable:
        return []


def of_rocm_smi(text: str) -> list[str]:
    """Names in order of `card0`, `card1`, …; the members' spelling differs between versions."""
    try:
        told = json.loads(text[text.index("{") :])
    except (ValueError, RecursionError):
        return []
    listed = told if isinstance(told, dict) else {}
    numbered = sorted((key for key in listed if re.fullmatch(r"card\d+", key)), key=lambda key: int(key[4:]))
    names = []
    for key in numbered:
        members = listed[key] if isinstance(listed[key], dict) else {}
        by_word = {str(member).lower(): value for member, value in members.items()}
        name = by_word.get("card series") or by_word.get("card model")
        if isinstance(name, str) and name.isprintable():
            names.append(_name(name, "amd"))
    return names


# -- macOS and Windows -------------------------------------------------------------------------------------------------


def _of_macos() -> list[Card]:
    memory = output(["/usr/sbin/sysctl", "-n", "hw.memsize"], PATIENCE)
    return of_macos(output(["/usr/sbin/system_profiler", "SPDisplaysDataType", "-json"], PATIENCE), memory)


def of_macos(profile: str, memory: str) -> list[Card]:
    """From the system profiler. Apple's own chips share the processor's memory. Raises `Unreadable`."""
    try:
        told = json.loads(profile)["SPDisplaysDataType"]
        displays = [one for one in told if isinstance(one, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unreadable("the system profiler's answer cannot be read") from None
    found = []
    for one in displays:
        name = str(one.get("sppci_model") or one.get("_name") or "GPU")
        apple = "apple" in str(one.get("spdisplays_vendor", "")).lower() or name.startswith("Apple")
        cores = str(one.get("sppci_cores") or "")
        title = f"{name} ({cores} cores)" if cores.isdigit() else name
        size = _bytes(memory.strip()) if apple else _worded(str(one.get("spdisplays_vram") or ""))
        found.append(card(_name(title, ""), "apple" if apple else _vendor_in(name), memory_bytes=size))
    return found


def of_windows(adapters: Sequence[Mapping[str, Any]]) -> list[Card]:
    """From the values of the registry's keys of display adapters."""
    found = []
    for adapter in adapters:
        name = adapter.get("DriverDesc")
        if not isinstance(name, str) or not name or name.startswith("Microsoft"):
            continue  # Microsoft's own adapters draw, they do not compute
        size = adapter.get("HardwareInformation.qwMemorySize")
        size = size if isinstance(size, int) and 0 < size < _LARGEST else None
        found.append(card(_name(name, ""), _vendor_in(name), memory_bytes=size))
    return found


def _registry() -> Iterator[Mapping[str, Any]]:
    try:
        winreg = importlib.import_module("winreg")
    except ImportError:
        return
    for number in range(16):
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, rf"{_DISPLAYS}\{number:04d}") as key:
                yield {
                    name: value for name, value, _ in (winreg.EnumValue(key, i) for i in range(_values(winreg, key)))
                }
        except OSError:
            continue


def _values(winreg: Any, key: Any) -> int:
    return int(winreg.QueryInfoKey(key)[1])


# -- words and numbers -------------------------------------------------------------------------------------------------


def _line(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return ""


def _name(told: object, vendor: str) -> str:
    name = " ".join(told.split()) if isinstance(told, str) else ""
    return name[:100] if name and name.isprintable() else _TITLES.get(vendor, "GPU")


def _vendor_in(name: str) -> str:
    small = name.lower()
    if "nvidia" in small or "geforce" in small:
        return "nvidia"
    if "amd" in small or "radeon" in small:
        return "amd"
    return "intel" if "intel" in small else ""


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"-?\d{1,15}(\.\d{1,6})?", text) else None


def _bytes(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,15}", text) and int(text) else None


def _worded(text: str) -> int | None:
    """`8 GB` or `1536 MB`."""
    found = re.fullmatch(r"(\d{1,6}) (MB|GB)", text)
    return int(found[1]) << (20 if found[2] == "MB" else 30) if found else None
