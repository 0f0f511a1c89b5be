"""Remembers: SQL by noun. The only place that writes SQL; rows become frozen structs at this border."""
