"""Retention, anonymisation and their proof (LGPD)."""
