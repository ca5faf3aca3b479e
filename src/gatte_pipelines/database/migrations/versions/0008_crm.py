"""Links to the CRM, what was agreed on, calls under way, conflicts.

The SQL stands beside this file so that a DBA can read it as it runs.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the SQL file of this revision."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: the database may hold what only this version knows."""
    raise NotImplementedError("there is no way down from 0008; restore a backup instead")
