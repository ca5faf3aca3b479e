"""The ledger of certificate alerts, and what tells that a certificate was written.

The SQL stands beside this file so that a DBA can read it as it runs.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the SQL file of this revision."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: these tables hold the only copy of the records."""
    raise NotImplementedError("there is no way down from 0005; restore a backup instead")
