"""Limits, quotas and budgets: what a call may take, decided without I/O and without waiting."""
