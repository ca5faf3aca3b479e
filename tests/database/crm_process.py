"""One run of the CRM sync as a process of its own, for tests that kill it.

Run as ``python -m tests.database.crm_process``; everything comes from the environment.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from gatte_pipelines.crm.budget import TokenLedger
from gatte_pipelines.crm.client import PipedriveClient
from gatte_pipelines.crm.policy_file import read_crm_policy
from gatte_pipelines.crm.sync import PIPELINE, CrmSync
from gatte_pipelines.database.engine import connect, make_engine
from gatte_pipelines.database.runs import run_recorded

CONFIG = Path(__file__).resolve().parents[2] / "config"


def main() -> None:
    """Run once, at the instant that the test gives."""
    now = datetime.fromisoformat(os.environ["TEST_NOW"])
    with (
        connect(make_engine(os.environ["TEST_DATABASE_URL"])) as connection,
        PipedriveClient(
            os.environ["TEST_CRM_URL"],
            os.environ["TEST_CRM_TOKEN"],
            ledger=TokenLedger(budget=1_000_000, now=lambda: now),
            sleep=lambda _: None,
        ) as client,
    ):
        policy = read_crm_policy(CONFIG / "crm_fields.yaml", CONFIG / "crm_stages.yaml")
        operation = CrmSync(
            connection, client=client, policy=policy, webhooks=None, imports=False, now=now
        )
        run_recorded(connection, pipeline=PIPELINE, as_of=now, body=operation.sync, lock=PIPELINE)


if __name__ == "__main__":
    main()
