"""Stand-ins for the outside world and made-up traffic; nothing here runs in production."""
