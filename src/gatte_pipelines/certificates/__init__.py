"""Certificates: their state, and that nobody's lapses without being told in time."""
