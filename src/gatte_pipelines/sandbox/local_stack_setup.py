"""What flow runs of the local stack stand on: settings, database, mailbox, sample input.

Prefect belongs to ``local_stack``.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from gatte_pipelines.business_time import BusinessCalendar
from gatte_pipelines.certificates.policy import is_open
from gatte_pipelines.certificates.policy_file import read_alert_policy
from gatte_pipelines.database import embedded, migrate, roles
from gatte_pipelines.database.engine import make_engine
from gatte_pipelines.errors import GatteError
from gatte_pipelines.landing import SUFFIXES, LandingZone
from gatte_pipelines.sandbox.pipedrive import PipedriveStandIn
from gatte_pipelines.sandbox.pipedrive_account import DEFAULT_LABELS, DEFAULT_PIPELINES
from gatte_pipelines.sandbox.smtp import SmtpStandIn
from gatte_pipelines.sandbox.traffic import WHOLE_SHARES, TrafficPlan, write_traffic
from gatte_pipelines.sandbox.whatsapp import PHONE_NUMBER_ID, WhatsAppStandIn
from gatte_pipelines.settings import PREFIX, Settings
from gatte_pipelines.wiring import ALERT_POLICY, Wiring, embedded_id_key

if TYPE_CHECKING:
    from sqlalchemy import URL

# A few seconds of work.
SAMPLE_MESSAGES, SAMPLE_USERS = 5_000, 400
# Every kind of record; redeliveries, late and bad records come along in the usual shares.
_SAMPLE_SHARES: dict[str, Any] = dict(WHOLE_SHARES)
SAMPLE_NAME = "sample_traffic.jsonl"
# Until then the sample stays the same, so that a second run counts duplicates; records of more than
# 90 days would create nothing.
SAMPLE_KEPT = timedelta(days=45)
STAND_IN_RECIPIENT = "equipe@gatte.example"
PIPEDRIVE_MEMORY = "pipedrive_stand_in.json"


def settings_variables(settings: Settings) -> dict[str, str]:
    """The environment from which ``Settings.from_environment`` reads these settings again.

    What is not set is written as empty, so that no ``.env`` file fills it in.
    """
    return {
        PREFIX + item.name.upper(): _to_text(getattr(settings, item.name))
        for item in dataclasses.fields(settings)
    }


def _to_text(value: object) -> str:
    if value is None:
        return ""
    return value.decode() if isinstance(value, bytes) else str(value)


@contextmanager
def prepared(settings: Settings, echo: Callable[[str], None]) -> Iterator[Settings]:
    """Start what the operations need and is not given: database, mailbox, landing zone.

    A database named by URL is left as it is: migrating it is a decision (``gatte db migrate``). Nor
    does it get a stand-in for the CRM, whose made-up ids would stay in it.

    Yields:
        The settings with which flow runs reach it all.
    """
    with ExitStack() as resources:
        has_own_database = not settings.is_embedded
        if settings.is_embedded:
            echo("starting the embedded PostgreSQL")
            server = resources.enter_context(embedded.start(settings.home))
            engine = make_engine(server.url(embedded.SUPERUSER))
            with engine.connect() as connection:
                roles.create(connection)
                done = migrate.migrate(connection)
            engine.dispose()
            if done:
                echo(f"migrated the database to {done[-1]}")
            # By URL: the database lives as long as the stack, and no run has to ask for it.
            settings = dataclasses.replace(
                settings,
                database_url=_text(server.url(roles.PIPELINE)),
                migration_database_url=_text(server.url(embedded.SUPERUSER)),
                reporting_database_url=_text(server.url(roles.REPORTING)),
                id_key=settings.id_key or embedded_id_key(settings.home),
            )
        if settings.smtp_url is None:
            stand_in = resources.enter_context(SmtpStandIn(settings.home / "mail"))
            settings = dataclasses.replace(
                settings,
                smtp_url=stand_in.url,
                staff_email=settings.staff_email or STAND_IN_RECIPIENT,
            )
        if not settings.inbound_url:
            LandingZone(settings.landing_url).create()
        if settings.whatsapp_token is None:
            landing = None if settings.inbound_url else Path(settings.landing_url)
            whatsapp = resources.enter_context(WhatsAppStandIn(landing))
            settings = dataclasses.replace(
                settings,
                whatsapp_base_url=whatsapp.url,
                whatsapp_phone_number_id=PHONE_NUMBER_ID,
                whatsapp_token=whatsapp.token,
            )
        if settings.pipedrive_api_token is None and not has_own_database:
            pipedrive = resources.enter_context(_pipedrive(settings))
            settings = dataclasses.replace(
                settings, pipedrive_base_url=pipedrive.url, pipedrive_api_token=pipedrive.token
            )
        yield settings


def _pipedrive(settings: Settings) -> PipedriveStandIn:
    """A company that has the labels and stages that the configuration names."""
    labels, pipelines = dict(DEFAULT_LABELS), {**DEFAULT_PIPELINES}
    # A configuration that cannot be read is told by the sync itself; nothing else needs it.
    with suppress(GatteError):
        policy = Wiring.from_settings(settings).crm_policy
        labels |= {label.name: "green" for label in policy.stages.labels}
        for stage in policy.stages.deal_stages:
            names = pipelines.get(stage.pipeline, ())
            if stage.name not in names:
                pipelines[stage.pipeline] = (*names, stage.name)
    landing = None if settings.inbound_url else Path(settings.landing_url)
    return PipedriveStandIn(
        landing,
        labels=labels,
        pipelines=pipelines,
        memory=settings.home / PIPEDRIVE_MEMORY,
    )


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def lay_sample_input(settings: Settings, project: Path, echo: Callable[[str], None]) -> None:
    """Put the sample input into the landing zone, by rename as real batches arrive.

    Only where everything is local: a database or landing zone of one's own gets no made-up data.
    """
    if not settings.is_embedded or settings.inbound_url:
        echo("no sample input: the database or the landing zone is yours")
        return
    landing = Path(settings.landing_url)
    landing.mkdir(parents=True, exist_ok=True)
    examples = [
        path for path in sorted((project / "examples").rglob("*")) if path.name.endswith(SUFFIXES)
    ]
    for path in examples:
        partial = landing / f"{path.name}.part"
        shutil.copyfile(path, partial)
        partial.rename(landing / path.name)
    partial = landing / f"{SAMPLE_NAME}.part"
    with partial.open("wb") as out:
        counts = write_traffic(sample_plan(settings.home, datetime.now(UTC)), out)
    partial.rename(landing / SAMPLE_NAME)
    echo(f"sample input: {len(examples) + 1} files, {counts.updates} generated records among them")


def sample_plan(home: Path, now: datetime) -> TrafficPlan:
    """The traffic of ``make run``: the same under one home for some weeks, then anew.

    Args:
        home: Where the day of the sample is remembered.
        now: The instant of this run.
    """
    remembered = home / "sample_as_of"
    try:
        as_of = datetime.fromisoformat(remembered.read_text("utf-8"))
    except (OSError, ValueError):
        as_of = None
    if as_of is None or not now - SAMPLE_KEPT <= as_of <= now:
        as_of = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
        remembered.write_text(as_of.isoformat(), "utf-8")
    return TrafficPlan(
        messages=SAMPLE_MESSAGES,
        users=SAMPLE_USERS,
        seed=as_of.toordinal(),
        as_of=as_of,
        **_SAMPLE_SHARES,
    )


def sample_parameters(name: str, given: Settings, prepared: Settings) -> dict[str, Any] | None:
    """With what `make run` runs a flow; None where it must not.

    Args:
        name: Of the flow.
        given: The settings as the person gave them: a database named there gets neither a night's
            retention, which destroys, nor a request of somebody who asked for nothing, nor a
            decision that is a person's.
        prepared: The settings with which flow runs reach the database.
    """
    if name == "nightly":
        return {} if given.is_embedded else None
    if name == "certificate_alerts":
        # Nobody's clients are written to by a trial; those of the sample by day alone.
        return {"dry_run": not (given.is_embedded and _is_open(prepared))}
    if name == "crm_sync":
        if given.is_embedded and given.pipedrive_api_token is None:
            return {}
        # Made-up leads have no place in somebody's CRM, nor a trial's changes in a database.
        return {"dry_run": True} if given.pipedrive_api_token else None
    if name == "lgpd_subject_request":
        user_id = _read_sample_user(prepared) if given.is_embedded else None
        return None if user_id is None else {"kind": "export", "user_id": user_id}
    if name == "resolve_conflict":
        conflict = _read_open_conflict(prepared) if given.is_embedded else None
        return None if conflict is None else {"conflict_id": conflict[0], "keep": conflict[1]}
    return {}


def _read_sample_user(settings: Settings) -> str | None:
    engine = make_engine(settings.database_url or "")
    with engine.connect() as connection:
        found = connection.scalar(text("select min(id::text) from users"))
    return None if found is None else str(found)


def _read_open_conflict(settings: Settings) -> tuple[str, str] | None:
    """The oldest conflict and the side that won, which is the one that a trial keeps."""
    engine = make_engine(settings.database_url or "")
    with engine.connect() as connection:
        found = connection.execute(
            text(
                "select conflict_id::text, winner from pipeline.sync_conflicts "
                "where resolved_at is null order by found_at, conflict_id limit 1"
            )
        ).one_or_none()
    return None if found is None else (found[0], found[1])


def _is_open(settings: Settings) -> bool:
    policy = read_alert_policy(settings.config_folder / ALERT_POLICY)
    return is_open(policy, BusinessCalendar(settings.holiday_state), datetime.now(UTC))


def read_waiting_plan(settings: Settings, pipeline: str) -> str | None:
    """The newest plan of a pipeline that nobody has approved yet.

    Args:
        settings: With the URL of the database.
        pipeline: Whose.
    """
    engine = make_engine(settings.database_url or "")
    with engine.connect() as connection:
        found = connection.scalar(
            text(
                "select plan_id from pipeline.plans where pipeline = :pipeline "
                "and executed_at is null and expires_at > now() order by made_at desc limit 1"
            ),
            {"pipeline": pipeline},
        )
    return None if found is None else str(found)


# Days from now of the certificates of one sample client each, and of the one who has seven.
_SAMPLE_DAYS = (0, 1, 6, 7, 14, 15, 29, 30, 58, 60, 61, 200, -1, -7, -20, -45)
_SAMPLE_MANY = (3, 3, 10, 10, 20, 25, 40)
# Who has the renewed one, and who has seven.
_SAMPLE_LEAST = 2
_SAMPLE_TYPES = ("e-CNPJ", "e-CPF", "e-NFe", "e-CT")


def lay_sample_certificates(settings: Settings, echo: Callable[[str], None]) -> None:
    """Give sample clients services and certificates, as the chatbot would have written them.

    Only into the embedded database of a home without any: at several steps, some expired, one that
    was renewed, one client with seven, one client in two with an e-mail address.

    Args:
        settings: As prepared, with the owner's URL.
        echo: Told what was laid.
    """
    engine = make_engine(settings.migration_database_url or "")
    with engine.begin() as connection:
        if connection.scalar(text("select exists (select from certificates)")):
            return
        users = connection.scalars(
            text(
                "select id from users as u where phone like '+%' and not exists ("
                "select from pipeline.current_opt_outs as o where o.user_id = u.id "
                "and o.is_opted_out) order by created_at, id limit :wanted"
            ),
            {"wanted": len(_SAMPLE_DAYS) + 2},
        ).all()
        if len(users) < _SAMPLE_LEAST:
            # A load that failed says so itself.
            echo("no sample certificates: there are no clients yet")
            return
        rows = [
            (user, days, _SAMPLE_TYPES[number % 4])
            for number, (user, days) in enumerate(zip(users, _SAMPLE_DAYS, strict=False))
        ]
        rows += [
            (users[-1], days, _SAMPLE_TYPES[number % 4]) for number, days in enumerate(_SAMPLE_MANY)
        ]
        # A renewed one: the old and, issued a week ago, the new.
        rows += [(users[-2], 10, "e-CNPJ"), (users[-2], 358, "e-CNPJ")]
        for number, (user, days, kind) in enumerate(rows):
            connection.execute(
                text(_SAMPLE_CERTIFICATE),
                {
                    "user_id": user,
                    "days": days,
                    "type": kind,
                    "value": 89 + 40 * (number % 5),
                    "email": f"cliente{number}@example.com" if number % 2 else None,
                },
            )
    echo(f"sample certificates: {len(rows)}")


_SAMPLE_CERTIFICATE = """
with mailed as (
    update users set email = coalesce(email, :email) where id = :user_id
),
kept as (
    select id from services where user_id = :user_id limit 1
),
made as (
    insert into services (id, user_id, name, plan, status, contracted_at, monthly_value)
    select gen_random_uuid(), :user_id, 'LC Web Profissional', 'profissional', 'active',
        now() - interval '400 days', :value
    where not exists (select from kept)
    returning id
)
insert into certificates (
    id, service_id, user_id, type, issued_at, expires_at, days_to_expire, status, alert_sent
)
select gen_random_uuid(), id, :user_id, cast(:type as certificate_type),
    now() + cast(:days as integer) * interval '1 day' - interval '365 days',
    now() + cast(:days as integer) * interval '1 day', 0, 'valid', false
from (select id from kept union all select id from made) as s
"""

# Made up. Two of them are one person's: the CRM gets two leads of one person.
_SAMPLE_LEADS: tuple[dict[str, Any], ...] = (
    {"name": "Ana Exemplo", "interest": "LC Web Profissional", "company": "Padaria Exemplo"},
    {"name": "Ana Exemplo", "interest": "e-CNPJ", "company": "Padaria Exemplo", "user": 0},
    {"name": "Bruno Exemplo", "interest": "e-CPF", "source": "indicacao"},
    {"name": "Clara Exemplo", "interest": "LC Web Essencial", "notes": "Prefere ligação à tarde."},
    {"name": "Davi Exemplo", "interest": "e-CNPJ", "company": "Oficina Exemplo", "source": "site"},
    {"name": "Elisa Exemplo", "interest": "LC Web Enterprise", "company": "Clínica Exemplo"},
    {"name": "Fábio Exemplo", "interest": "e-NFe", "stage": "contacted"},
    {"name": "Gabi Exemplo", "interest": "e-CT", "company": "Frete Exemplo", "stage": "qualified"},
)

_SAMPLE_LEAD = """
insert into leads (
    id, user_id, name, company, phone, email, interest, stage, source, notes, created_at
)
select gen_random_uuid(), u.id, :name, :company, u.phone, :email, :interest,
    cast(:stage as lead_stage), :source, :notes, now() - :number * interval '1 hour'
from users as u
where u.id = :user_id
"""


def lay_sample_leads(settings: Settings, echo: Callable[[str], None]) -> None:
    """Give sample clients leads, as the chatbot would have written them.

    Only into the embedded database of a home without any of the chatbot's; fewer than a sync of
    them would have to be approved for.

    Args:
        settings: As prepared, with the owner's URL.
        echo: Told what was laid.
    """
    engine = make_engine(settings.migration_database_url or "")
    with engine.begin() as connection:
        if connection.scalar(
            text("select exists (select from leads where source <> 'certificado_vencendo')")
        ):
            return
        users = connection.scalars(
            text("select id from users where phone like '+%' order by id limit :wanted"),
            {"wanted": len(_SAMPLE_LEADS)},
        ).all()
        laid = 0
        for number, (_, lead) in enumerate(zip(users, _SAMPLE_LEADS, strict=False)):
            user = lead.get("user", number)
            connection.execute(
                text(_SAMPLE_LEAD),
                {
                    "user_id": users[user],
                    "name": lead["name"],
                    "company": lead.get("company"),
                    "email": f"lead{user}@example.com" if user % 2 == 0 else None,
                    "interest": lead["interest"],
                    "stage": lead.get("stage", "new"),
                    "source": lead.get("source", "whatsapp_bot"),
                    "notes": lead.get("notes"),
                    "number": number,
                },
            )
            laid += 1
    echo(f"sample leads: {laid}")


# What `make run` shows of the database, in its order.
_CONTENTS = {
    "clientes": "select count(*) from users",
    "conversas": "select count(*) from conversations",
    "mensagens de clientes": "select count(*) from messages where role = 'user'",
    "mensagens nossas": "select count(*) from messages where role <> 'user'",
    "mensagens que o chatbot contou": (
        "select count(*) from pipeline.message_facts where told_at is not null"
    ),
    "eventos de conversa do chatbot": "select count(*) from pipeline.conversation_events",
    "situações de entrega": "select count(*) from pipeline.message_statuses",
    "edições": "select count(*) from pipeline.message_changes where not is_revoke",
    "remoções": "select count(*) from pipeline.message_changes where is_revoke",
    "reações": "select count(*) from pipeline.message_reactions",
    "respostas de botão": "select count(*) from pipeline.button_replies",
    "trocas de número ou de id": "select count(*) from pipeline.identity_changes",
    "clientes que eram dois": "select count(*) from pipeline.user_merges",
    "descadastros": "select count(*) from pipeline.current_opt_outs where is_opted_out",
    "certificados": "select count(*) from certificates",
    "avisos a clientes": (
        "select count(*) from pipeline.alert_messages where audience = 'client' "
        "and state in ('accepted', 'delivered', 'read')"
    ),
    "leads no Pipedrive": "select count(*) from leads where crm_id is not null",
    "leads de renovação": "select count(*) from leads where source = 'certificado_vencendo'",
    "em quarentena": "select count(*) from pipeline.quarantine",
}


def read_contents(settings: Settings) -> dict[str, int]:
    """How many rows of each kind the database holds, under Portuguese names.

    Args:
        settings: With the URL of the database.
    """
    engine = make_engine(settings.database_url or "")
    with engine.connect() as connection:
        return {name: connection.scalar(text(query)) or 0 for name, query in _CONTENTS.items()}
