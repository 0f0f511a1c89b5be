"""What NVIDIA's own library says of its cards. Loaded only when asked; a machine without it costs one failed import."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from intertie.agent.machine.unreadable import Unreadable

_CORE_TEMPERATURE: Final = 0  # NVML_TEMPERATURE_GPU


def load() -> ModuleType:
    """pynvml, which is large: not imported where there is no driver to ask. Raises `Unreadable`."""
    if importlib.util.find_spec("pynvml") is None:
        raise Unreadable("the Python package nvidia-ml-py is not installed")
    if not any(_there(place) for place in _driver()):
        raise Unreadable("NVIDIA's driver is not installed")
    return importlib.import_module("pynvml")


def _driver() -> tuple[str, ...]:
    """Where pynvml looks for the driver's library."""
    if sys.platform == "win32":
        system = Path(os.environ.get("WINDIR", "C:/Windows"), "System32", "nvml.dll")
        programs = Path(os.environ.get("PROGRAMFILES", "C:/Program Files"), "NVIDIA Corporation", "NVSMI", "nvml.dll")
        return (str(system), str(programs))
    return ("libnvidia-ml.so.1",)


def _there(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


class Cards:
    """The cards of this machine. Used by one thread."""

    def __init__(self, library: ModuleType | Any | None = None) -> None:
        """`library` stands in for pynvml in tests. Raises `Unreadable` where there is no card to ask."""
        self._nvml: Any = library if library is not None else load()
        try:
            self._nvml.nvmlInit()
            self._cards = [self._nvml.nvmlDeviceGetHandleByIndex(i) for i in range(self._nvml.nvmlDeviceGetCount())]
        except self._nvml.NVMLError as error:
            raise Unreadable(f"NVIDIA's driver cannot be asked: {error}") from None
        if not self._cards:
            raise Unreadable("there is no NVIDIA card")
        self._seen = [0] * len(self._cards)

    def by_process(self) -> list[dict[int, float]]:
        """Per card: share of its time (0 to 1) by process id, since the last call. Raises `Unreadable`.

        Not every driver tells (Windows in its usual driver model, WSL); those are asked for `whole` instead.
        """
        return [self._by_process(number) for number in range(len(self._cards))]

    def _by_process(self, number: int) -> dict[int, float]:
        try:
            samples = self._nvml.nvmlDeviceGetProcessUtilization(self._cards[number], self._seen[number])
        except self._nvml.NVMLError as error:
            if getattr(error, "value", None) == self._nvml.NVML_ERROR_NOT_FOUND:
                return {}
            raise Unreadable(f"NVIDIA's driver does not tell who uses the card: {error}") from None
        shares: dict[int, float] = {}
        for sample in samples:
            self._seen[number] = max(self._seen[number], sample.timeStamp)
            shares[sample.pid] = max(shares.get(sample.pid, 0.0), min(sample.smUtil, 100) / 100)
        return shares

    def whole(self) -> float:
        """Share of its time (0 to 1) that the busiest card works, for whomever. Raises `Unreadable`."""
        try:
            return float(max(self._nvml.nvmlDeviceGetUtilizationRates(card).gpu for card in self._cards)) / 100
        except self._nvml.NVMLError as error:
            raise Unreadable(f"NVIDIA's driver does not tell how busy the card is: {error}") from None

    def temperature(self) -> float:
        """Degrees Celsius of the hottest card. Raises `Unreadable`."""
        try:
            return float(max(self._nvml.nvmlDeviceGetTemperature(card, _CORE_TEMPERATURE) for card in self._cards))
        except self._nvml.NVMLError as error:
            raise Unreadable(f"NVIDIA's driver does not tell the card's temperature: {error}") from None
