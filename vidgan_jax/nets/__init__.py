"""Frozen feature networks."""
