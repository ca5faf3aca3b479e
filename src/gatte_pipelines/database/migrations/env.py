"""Alembic's environment; run by ``database.migrate``, never by the alembic command directly."""

from __future__ import annotations

from alembic import context

from gatte_pipelines.database.names import SCHEMA

# The version stands in our schema, so that public holds the nine tables and nothing else.
context.configure(
    connection=context.config.attributes["connection"],
    version_table="alembic_version",
    version_table_schema=SCHEMA,
)
with context.begin_transaction():
    context.run_migrations()
