"""What is in the source has its tests where one looks for them."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.meta.source import ROOT, Module, package, tracked

UNIT = ROOT / "tests" / "unit"
RECORDINGS = ROOT / "tests" / "contract" / "providers"


def _decides(module: Module) -> bool:
    """True if some function does more than declare itself."""
    for _, node in module.definitions():
        if isinstance(node, ast.ClassDef):
            continue
        body = [line for line in node.body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))]
        if body:
            return True
    return False


def _mirror(module: Module) -> Path:
    """`_compatible.py` is mirrored by `test_compatible.py`, a package's `__init__.py` by `test_<package>.py` in it."""
    parts = module.name.split(".")
    folder = parts if module.package else parts[:-1]
    return UNIT.joinpath(*folder, f"test_{parts[-1].strip('_') or 'init'}.py")


def _is_provider(module: Module) -> bool:
    parent, _, name = module.name.rpartition(".")
    return parent == "core.providers" and not name.startswith("_") and not module.package


def test_every_module_of_core_has_a_mirror_in_the_unit_tests() -> None:
    """`core/routing/plan.py` is tested by `tests/unit/core/routing/test_plan.py`; adapters have recordings instead."""
    files = set(tracked())
    missing = [
        str(_mirror(module).relative_to(ROOT))
        for module in package()
        if module.name.startswith("core") and _decides(module) and not _is_provider(module)
        if _mirror(module) not in files
    ]

    assert not missing, "\n".join(missing)


def test_every_unit_test_mirrors_a_module() -> None:
    """A unit test's name begins with the name of a module in the same place."""
    folders: dict[Path, set[str]] = {}
    for module in package():
        mirror = _mirror(module)
        folders.setdefault(mirror.parent, set()).add(mirror.stem)
    stray = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.is_relative_to(UNIT) and path.name.startswith("test_")
        if not any(path.stem == stem or path.stem.startswith(stem + "_") for stem in folders.get(path.parent, ()))
    ]

    assert not stray, "\n".join(stray)


def test_every_adapter_has_recordings_and_every_recording_an_adapter() -> None:
    """A provider is one file in `core/providers` and one folder of recordings of the same name."""
    adapters = {module.name.rpartition(".")[2] for module in package() if _is_provider(module)}
    folders = {
        path.relative_to(RECORDINGS).parts[0]
        for path in tracked()
        if path.is_relative_to(RECORDINGS) and len(path.relative_to(RECORDINGS).parts) > 1
    }

    assert sorted(adapters) == sorted(folders - {"__snapshots__"})
