"""The verifier of the audit trail is independent of the code that writes it."""

from __future__ import annotations

from tests.meta.source import imports, own_imports, package

ALLOWED = {"cryptography"}
"""Beside the standard library."""


def test_the_verifier_imports_nothing_of_this_project() -> None:
    """A mistake in the writer's encoding must not be the verifier's too, and the file must run alone."""
    import sys

    module = next(module for module in package() if module.name == "auditor")
    foreign = {found.target.split(".")[0] for found in imports(module)} - sys.stdlib_module_names - ALLOWED

    assert not list(own_imports(module))
    assert not foreign


def test_what_writes_the_trail_does_not_import_the_verifier() -> None:
    """Only those who show its verdict do."""
    users = {module.name for module in package() if any(found.target == "auditor" for found in own_imports(module))}

    assert users == {"api.audit", "cli.audit", "controlplane.trail"}
