"""Two-way sync of appointments with Google Calendar."""
