"""Data quality of the nine operational tables: what must hold, whether it does, and what then."""
