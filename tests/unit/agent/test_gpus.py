"""Graphics cards, from what each source says: pynvml, nvidia-smi, sysfs, rocm-smi, system_profiler, the registry."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from intertie.agent.gpus import of_drm, of_macos, of_nvidia_smi, of_nvml, of_rocm_smi, of_windows
from intertie.agent.machine.unreadable import Unreadable

GIB = 1 << 30


class NVMLError(Exception):
    """What the library raises."""


class Library(SimpleNamespace):
    """pynvml with one card; `broken` functions raise."""

    NVMLError = NVMLError

    def __init__(self, *broken: str, name: object = "NVIDIA GeForce RTX 4090") -> None:
        memory = SimpleNamespace(total=24 * GIB, used=6 * GIB)
        answers: dict[str, Any] = {
            "nvmlInit": None,
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetHandleByIndex": "handle",
            "nvmlDeviceGetName": name,
            "nvmlDeviceGetMemoryInfo": memory,
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=37),
            "nvmlDeviceGetTemperature": 61,
        }

        def make(function: str, answer: Any) -> Any:
            def call(*_: object) -> Any:
                if function in broken:
                    raise NVMLError("Not Supported")
                return answer

            return call

        super().__init__(**{function: make(function, answer) for function, answer in answers.items()})


@pytest.mark.parametrize("name", ["NVIDIA GeForce RTX 4090", b"NVIDIA GeForce RTX 4090"])
def test_nvidia_through_its_library(name: object) -> None:
    assert of_nvml(Library(name=name)) == [
        {
            "name": "NVIDIA GeForce RTX 4090",
            "vendor": "nvidia",
            "memory_bytes": 24 * GIB,
            "memory_used_bytes": 6 * GIB,
            "utilisation": 0.37,
            "temperature": 61.0,
        }
    ]


def test_a_card_that_tells_only_some() -> None:
    """Unified memory (GH200, Jetson) has none of its own to tell."""
    library = Library(
        "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetTemperature", "nvmlDeviceGetName", "nvmlDeviceGetUtilizationRates"
    )
    (card,) = of_nvml(library)

    assert card["name"] == "NVIDIA GPU"
    assert {card[member] for member in ("memory_bytes", "memory_used_bytes", "utilisation", "temperature")} == {None}


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount"])
def test_without_a_driver(function: str) -> None:
    with pytest.raises(Unreadable):
        of_nvml(Library(function))


def test_nvidia_through_its_tool() -> None:
    first, second = of_nvidia_smi(
        "NVIDIA H100 PCIe, 81559, 1024, 12, 40\nNVIDIA GB10, [N/A], [N/A], 0, 51\nsome warning\n"
    )

    assert (first["name"], first["memory_bytes"], first["utilisation"]) == ("NVIDIA H100 PCIe", 81559 << 20, 0.12)
    assert (second["memory_bytes"], second["utilisation"], second["temperature"]) == (None, 0.0, 51.0)
    assert of_nvidia_smi("No devices were found") == []


def sysfs(folder: Path, number: int, **files: str) -> Path:
    device = folder / f"card{number}" / "device"
    device.mkdir(parents=True)
    for name, text in files.items():
        (device / name).write_text(text + "\n")
    (folder / f"card{number}-HDMI-A-1").mkdir()
    return device


def test_amd_through_sysfs(tmp_path: Path) -> None:
    vram = {"mem_info_vram_total": str(24 * GIB), "mem_info_vram_used": str(GIB)}
    device = sysfs(tmp_path, 0, vendor="0x1002", device="0x744c", gpu_busy_percent="8", **vram)
    (device / "hwmon" / "hwmon3").mkdir(parents=True)
    (device / "hwmon" / "hwmon3" / "temp1_input").write_text("44000\n")
    (card,) = of_drm(tmp_path, tmp_path, lambda: ["Radeon RX 7900 XTX"])

    assert card == {
        "name": "Radeon RX 7900 XTX",
        "vendor": "amd",
        "memory_bytes": 24 * GIB,
        "memory_used_bytes": GIB,
        "utilisation": 0.08,
        "temperature": 44.0,
    }


def test_a_card_nobody_names_has_its_number(tmp_path: Path) -> None:
    sysfs(tmp_path, 0, vendor="0x8086", device="0x56a0")
    sysfs(tmp_path, 1, vendor="0x1002", device="0x744c")
    sysfs(tmp_path, 2, vendor="0x1002", device="0x73bf", product_name="Radeon Pro W6800")
    sysfs(tmp_path, 3, vendor="0x1a03", device="0x2000")

    assert [(card["name"], card["vendor"]) for card in of_drm(tmp_path, tmp_path, list)] == [
        ("Intel GPU 0x56a0", "intel"),
        ("AMD GPU 0x744c", "amd"),
        ("Radeon Pro W6800", "amd"),
    ]
    assert of_drm(tmp_path / "none", tmp_path, list) == []


def test_nvidia_without_library_and_tool_is_named_by_its_driver(tmp_path: Path) -> None:
    slot = tmp_path / "pci" / "0000:01:00.0"
    slot.mkdir(parents=True)
    (slot / "vendor").write_text("0x10de\n")
    (tmp_path / "drm" / "card0").mkdir(parents=True)
    (tmp_path / "drm" / "card0" / "device").symlink_to(slot)
    told = tmp_path / "nvidia" / "0000:01:00.0"
    told.mkdir(parents=True)
    (told / "information").write_text("Model: \t\t NVIDIA GeForce RTX 3060\nIRQ:   \t\t 142\n")

    assert [card["name"] for card in of_drm(tmp_path / "drm", tmp_path / "nvidia", list)] == ["NVIDIA GeForce RTX 3060"]


@pytest.mark.parametrize("member", ["Card series", "Card Series", "Card model"])
def test_rocm_smi_in_both_spellings(member: str) -> None:
    told = {"card10": {member: "B"}, "card2": {member: "A"}, "system": {"Driver version": "6.1"}}

    assert of_rocm_smi("WARNING: something\n" + json.dumps(told)) == ["A", "B"]
    assert of_rocm_smi("no json at all") == []


def test_apple_shares_its_memory() -> None:
    profile = {
        "SPDisplaysDataType": [
            {
                "_name": "Apple M3 Max",
                "sppci_model": "Apple M3 Max",
                "sppci_cores": "40",
                "spdisplays_vendor": "sppci_vendor_Apple",
            },
            {"_name": "kHW_AMDRadeonItem", "sppci_model": "AMD Radeon Pro 5500M", "spdisplays_vram": "8 GB"},
        ]
    }
    apple, amd = of_macos(json.dumps(profile), "68719476736\n")

    assert (apple["name"], apple["vendor"], apple["memory_bytes"]) == ("Apple M3 Max (40 cores)", "apple", 64 * GIB)
    assert (amd["name"], amd["vendor"], amd["memory_bytes"]) == ("AMD Radeon Pro 5500M", "amd", 8 * GIB)
    with pytest.raises(Unreadable):
        of_macos("", "0")


def test_windows_adapters() -> None:
    adapters: list[dict[str, Any]] = [
        {"DriverDesc": "AMD Radeon RX 7800 XT", "HardwareInformation.qwMemorySize": 16 * GIB},
        {"DriverDesc": "Microsoft Basic Display Adapter"},
        {"DriverDesc": "Intel(R) Arc(TM) A770", "HardwareInformation.qwMemorySize": b"\x00"},
        {},
    ]

    assert [(card["name"], card["vendor"], card["memory_bytes"]) for card in of_windows(adapters)] == [
        ("AMD Radeon RX 7800 XT", "amd", 16 * GIB),
        ("Intel(R) Arc(TM) A770", "intel", None),
    ]
