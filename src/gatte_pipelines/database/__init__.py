"""PostgreSQL: the nine operational tables, our own records, connections, migrations and guards.

Business rules do not belong here; the domains bring their own SQL.
"""
