"""Objectives, one file each, and what goes with them."""
