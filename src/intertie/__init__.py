"""Intertie: one OpenAI-compatible endpoint for every provider you pay and every machine you own."""

__version__ = "0.1.0"
