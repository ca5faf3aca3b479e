"""The watchdog: tells staff by e-mail what went wrong, once. Repairing does not belong here."""
