"""What both two-way syncs share: what becomes of a field that two systems hold."""
