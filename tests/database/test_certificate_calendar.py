"""Any calendar of certificates, outages, renewals and answers: the engine tells what is due.

The oracle is a second reading of the rules: one certificate and one day at a time, from the wall
calendar, with no notion of what is new. It knows nothing of the engine but what reached the world.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import hypothesis
from hypothesis import HealthCheck, Phase, example, given
from hypothesis import strategies as st

from gatte_pipelines.business_time import ZONE
from gatte_pipelines.messaging.channels import Outcome, SendResult
from tests.certificates import CALENDAR, AlertWorld, Call, at
from tests.postgres import TestDatabase

# With Carnival in it: four days on which nobody works.
START = date(2026, 2, 9)
HORIZON = 40
THRESHOLDS = (60, 30, 15, 7, 1, 0)
CHANNELS = ("whatsapp", "email")
IS_EXPLORING = os.environ.get("GATTE_TEST_PROFILE") == "explore"
EXAMPLES = 150 if IS_EXPLORING else 3
# A smaller example takes minutes to find: worth it where somebody explores.
PHASES = tuple(Phase) if IS_EXPLORING else (Phase.explicit, Phase.generate)


# --- A scenario -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cert:
    client: int
    expires_in: int
    shares_service: bool


@dataclass(frozen=True)
class Event:
    """Between the runs of a day: what happens to a certificate or a client."""

    day: int
    kind: str
    target: int


@dataclass(frozen=True)
class Scenario:
    has_email: tuple[bool, ...]
    certs: tuple[Cert, ...]
    run_days: tuple[int, ...]
    second_run: str
    answers: tuple[str, ...]
    later: tuple[tuple[str, int], ...]
    events: tuple[Event, ...]


KINDS = ("renewed_by_another", "moved", "revoked", "opted_out", "renew", "renewed", "later")


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    clients = draw(st.integers(1, 3))
    certs = draw(
        st.lists(
            st.builds(
                Cert,
                client=st.integers(0, clients - 1),
                expires_in=st.integers(-28, 70),
                shares_service=st.booleans(),
            ),
            min_size=1,
            max_size=5,
        )
    )
    return Scenario(
        has_email=tuple(draw(st.lists(st.booleans(), min_size=clients, max_size=clients))),
        certs=tuple(certs),
        run_days=tuple(sorted(draw(st.sets(st.integers(0, HORIZON - 1), min_size=4, max_size=12)))),
        # Before and after what is unknown is given up.
        second_run=draw(st.sampled_from(("", "10:00", "13:00"))),
        answers=tuple(
            draw(
                st.lists(
                    st.sampled_from(("accepted", "accepted", "failed", "unknown", "deferred")),
                    min_size=1,
                    max_size=8,
                )
            )
        ),
        later=tuple(
            draw(
                st.lists(
                    st.tuples(
                        st.sampled_from(("none", "delivered", "delivered", "failed")),
                        # Runs until it comes: what failed days later meets another state of things.
                        st.integers(1, 4),
                    ),
                    min_size=1,
                    max_size=8,
                )
            )
        ),
        events=tuple(
            draw(
                st.lists(
                    st.builds(
                        Event,
                        day=st.integers(0, HORIZON - 1),
                        kind=st.sampled_from(KINDS),
                        target=st.integers(0, 4),
                    ),
                    max_size=5,
                )
            )
        ),
    )


def scenario_of(
    answers: tuple[str, ...],
    *,
    second_run: str = "",
    siblings: int = 1,
    events: tuple[Event, ...] = (),
) -> Scenario:
    """One client with an address, and certificates at 17 days that a run of every step meets."""
    return Scenario(
        has_email=(True,),
        certs=(Cert(client=0, expires_in=17, shares_service=True),) * siblings,
        run_days=(0, 1, 2, 3, 10, 11, 16, 17),
        second_run=second_run,
        answers=answers,
        later=(("none", 1),),
        events=events,
    )


def answer_of(scenario: Scenario, client: int, channel: str, number: int) -> str:
    """What the outside says to the nth call to a client by a channel."""
    at_ = client * 3 + CHANNELS.index(channel) + number
    return scenario.answers[at_ % len(scenario.answers)]


def later_of(scenario: Scenario, client: int, number: int) -> tuple[str, int]:
    """What a status says later of the nth WhatsApp call to a client, and after how many runs."""
    return scenario.later[(client + number) % len(scenario.later)]


# --- The oracle -----------------------------------------------------------------------------------


@dataclass
class Known:
    """One certificate as the oracle knows it."""

    number: int
    client: int
    service: int
    issued: datetime
    expires: datetime
    is_revoked: bool = False


@dataclass
class Step:
    threshold: int
    expires: datetime
    state: str = "due"
    attempts: dict[str, list[Any]] = field(default_factory=dict)  # channel: [state, at]


Told = tuple[datetime, int, str, frozenset[int]]


class Oracle:
    """Keeps everything, looks at everything, every time."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.certs: list[Known] = []
        self.steps: dict[int, list[Step]] = defaultdict(list)
        self.opted_out: set[int] = set()
        self.answers: list[tuple[int, datetime, str]] = []  # certificate, expiry, answer
        self.calls: dict[tuple[int, str], int] = defaultdict(int)
        self.told: list[Told] = []
        self.messages: list[dict[str, Any]] = []

    def run(self, now: datetime) -> None:
        on = now.astimezone(ZONE).date()
        self._read_statuses()
        replaced = self._replaced()
        for cert in self.certs:
            self._step(cert, on, cert.number in replaced)
        local = now.astimezone(ZONE)
        if not CALENDAR.is_business_day(on) or not 8 <= local.hour < 18:
            return
        for client in sorted({cert.client for cert in self.certs}):
            self._tell(client, now)

    def _read_statuses(self) -> None:
        for message in self.messages:
            later, runs = message.get("later", ("none", 0))
            message["later"] = (later, runs - 1)
            if later == "none" or runs != 1 or message["channel"] != "whatsapp":
                continue
            for step in message["steps"]:
                mine = step.attempts["whatsapp"]
                if mine[2] is not message:
                    continue
                if later == "delivered":
                    mine[0] = "accepted"
                    if step.state == "due":
                        step.state = "told"
                else:
                    mine[0] = "failed"
                    others = [a[0] for c, a in step.attempts.items() if c != "whatsapp"]
                    if step.state == "told" and "accepted" not in others:
                        step.state = "due"

    def _replaced(self) -> set[int]:
        """Old ones with a new one of their own: the oldest expiry chooses first."""
        replaced: set[int] = set()
        taken: set[int] = set()
        standing = [cert for cert in self.certs if not cert.is_revoked]
        for old in sorted(standing, key=lambda c: (c.expires, c.issued)):
            for new in sorted(standing, key=lambda c: (c.issued, c.expires)):
                if (
                    new.number not in taken
                    and (new.client, new.service) == (old.client, old.service)
                    and new.issued > old.issued
                    and new.expires > old.expires
                    and old.expires - timedelta(days=90) <= new.issued
                    and new.issued <= old.expires + timedelta(days=60)
                ):
                    replaced.add(old.number)
                    taken.add(new.number)
                    break
        return replaced

    def _step(self, cert: Known, on: date, is_replaced: bool) -> None:
        current = self._current(cert, on)
        for step in self.steps[cert.number]:
            if step.state != "due":
                continue
            if (
                cert.is_revoked
                or is_replaced
                or step.expires != cert.expires
                or current is None
                or current < step.threshold
            ):
                is_renewed = is_replaced or step.expires != cert.expires
                step.state = "renewed" if is_renewed and not cert.is_revoked else "over"
        if cert.is_revoked or is_replaced or current is None:
            return
        mine = [s for s in self.steps[cert.number] if s.expires == cert.expires]
        if current not in [step.threshold for step in mine]:
            self.steps[cert.number].append(Step(current, cert.expires))
        for step in mine:
            # Its successor was revoked; who got the message in time is told no more.
            reached = "accepted" in [attempt[0] for attempt in step.attempts.values()]
            if (step.threshold, step.state) == (current, "renewed") and not reached:
                step.state = "due"
        for step in self.steps[cert.number]:
            if step.state == "due" and self._is_answered(cert, step):
                step.state = "answered"

    def _current(self, cert: Known, on: date) -> int | None:
        expiry = cert.expires.astimezone(ZONE).date()
        if (expiry - on).days < -30:
            return None
        reached = []
        for threshold in THRESHOLDS:
            day = expiry - timedelta(days=threshold)
            while not CALENDAR.is_business_day(day):
                day += timedelta(days=-1 if threshold <= 7 else 1)
            if day <= on:
                reached.append(threshold)
        return min(reached, default=None)

    def _is_answered(self, cert: Known, step: Step) -> bool:
        given_ = {
            answer
            for number, expires, answer in self.answers
            if (number, expires) == (cert.number, step.expires)
        }
        return "renewed" in given_ or ("renew" in given_ and step.threshold > 7)

    def _tell(self, client: int, now: datetime) -> None:
        for _ in CHANNELS:
            by_channel: dict[str, list[tuple[Known, Step]]] = defaultdict(list)
            for cert in self.certs:
                if cert.client != client:
                    continue
                for step in self.steps[cert.number]:
                    if step.state == "due":
                        channel = self._next(step, now)
                        if channel is not None:
                            by_channel[channel].append((cert, step))
            for channel, found in by_channel.items():
                self._call(client, channel, found, now)

    def _next(self, step: Step, now: datetime) -> str | None:
        for channel in CHANNELS:
            if channel not in step.attempts or step.attempts[channel][0] == "deferred":
                tried_now = channel in step.attempts and step.attempts[channel][1] == now
                return None if tried_now else channel
            state, since, _ = step.attempts[channel]
            if state == "unknown" and self._hours(since, now) < 4:
                return None
        step.state = "unreachable"
        return None

    def _hours(self, since: datetime, now: datetime) -> float:
        minutes = 0
        while since < now:
            local = since.astimezone(ZONE)
            if CALENDAR.is_business_day(local.date()) and 8 <= local.hour < 18:
                minutes += 10
            since += timedelta(minutes=10)
        return minutes / 60

    def _call(
        self, client: int, channel: str, found: list[tuple[Known, Step]], now: datetime
    ) -> None:
        if client in self.opted_out:
            for _, step in found:
                step.state = "skipped"
            return
        if channel == "email" and not self.scenario.has_email[client]:
            for _, step in found:
                step.attempts["email"] = ["failed", now, None]
            return
        number = self.calls[client, channel]
        self.calls[client, channel] += 1
        result = answer_of(self.scenario, client, channel, number)
        steps = [step for _, step in found]
        message = {"channel": channel, "steps": steps}
        if result in {"accepted", "unknown"}:
            message["later"] = later_of(self.scenario, client, number)
        self.messages.append(message)
        for step in steps:
            step.attempts[channel] = [result, now, message]
            if result == "accepted":
                step.state = "told"
        self.told.append((now, client, channel, frozenset(cert.number for cert, _ in found)))


# --- The world, driven by the same scenario -------------------------------------------------------


class Stage:
    """The engine over a database, and the oracle, through the same days."""

    def __init__(self, world: AlertWorld, scenario: Scenario) -> None:
        self.world, self.scenario, self.oracle = world, scenario, Oracle(scenario)
        self.clients: list[UUID] = []
        self.ids: list[UUID] = []
        self.services: dict[int, UUID] = {}
        self.service_of: list[UUID] = []
        self.told: list[Told] = []
        self.counts: dict[tuple[int, str], int] = defaultdict(int)
        self.now = at(START)
        self.pending: list[tuple[Call, str, int]] = []
        for channel in (world.whatsapp, world.email):
            channel.answer = self._answer

    def set_up(self) -> None:
        for number, has_email in enumerate(self.scenario.has_email):
            address = f"c{number}@example.com" if has_email else None
            self.clients.append(self.world.client(email=address))
        for cert in self.scenario.certs:
            expires = START + timedelta(days=cert.expires_in)
            self._add(cert.client, expires, expires - timedelta(days=365), cert.shares_service)

    def play(self) -> None:
        events = defaultdict(list)
        for event in self.scenario.events:
            events[event.day].append(event)
        for day in range(HORIZON):
            on = START + timedelta(days=day)
            if day in self.scenario.run_days:
                self._run(on, "08:30")
                if self.scenario.second_run:
                    self._run(on, self.scenario.second_run)
            for event in events[day]:
                self._happen(event, on)

    def _run(self, on: date, hour: str) -> None:
        self.now = at(on, hour)
        pending, self.pending = self.pending, []
        for call, later, runs in pending:
            if runs > 1:
                self.pending.append((call, later, runs - 1))
            elif later != "none":
                self.world.status(call, later, self.now - timedelta(minutes=1), code=131026)
        self.world.run(on, hour)
        self.oracle.run(self.now)
        assert sorted(self.told, key=_order) == sorted(self.oracle.told, key=_order)

    def _answer(self, call: Call) -> SendResult:
        client = self.clients.index(call.user_id)
        number = self.counts[client, call.channel]
        self.counts[client, call.channel] += 1
        certificates = frozenset(self.ids.index(each) for each in call.certificates)
        self.told.append((self.now, client, call.channel, certificates))
        result = Outcome(answer_of(self.scenario, client, call.channel, number))
        if call.channel == "whatsapp" and result in {Outcome.ACCEPTED, Outcome.UNKNOWN}:
            self.pending.append((call, *later_of(self.scenario, client, number)))
        return SendResult(outcome=result, reason="" if result == "accepted" else "undeliverable")

    # -- what happens

    def _add(self, client: int, expires: date, issued: date, shares: bool) -> None:
        user = self.clients[client]
        if shares and client in self.services:
            service = self.services[client]
        else:
            service = self.world.service(user)
            self.services.setdefault(client, service)
        self._insert(client, service, expires, issued)

    def _insert(self, client: int, service: UUID, expires: date, issued: date) -> None:
        # No two alike to the minute: which of two twins a renewal replaces is nobody's to say.
        apart = timedelta(minutes=len(self.ids))
        issued_at, expires_at = at(issued) + apart, at(expires, "12:00") + apart
        self.ids.append(
            self.world.certificate(
                self.clients[client],
                expires,
                service_id=service,
                issued_at=issued_at,
                expires_at=expires_at,
            )
        )
        self.service_of.append(service)
        self.oracle.certs.append(
            Known(
                number=len(self.ids) - 1,
                client=client,
                service=service.int,
                issued=issued_at,
                expires=expires_at,
            )
        )

    def _happen(self, event: Event, on: date) -> None:
        if event.kind == "opted_out":
            self._opt_out(event.target % len(self.clients))
        elif event.kind in {"renew", "renewed", "later"}:
            self._press(event, on)
        else:
            self._change(event, on)

    def _change(self, event: Event, on: date) -> None:
        number = event.target % len(self.ids)
        known = self.oracle.certs[number]
        if event.kind == "renewed_by_another":
            self._insert(known.client, self.service_of[number], on + timedelta(days=365), on)
        elif event.kind == "moved":
            known.expires += timedelta(days=365)
            self.world.execute(
                "update certificates set expires_at = :at where id = :id",
                at=known.expires,
                id=self.ids[number],
            )
        else:
            known.is_revoked = True
            self.world.execute(
                "update certificates set status = 'revoked' where id = :id", id=self.ids[number]
            )

    def _opt_out(self, client: int) -> None:
        self.oracle.opted_out.add(client)
        self.world.execute(
            "insert into pipeline.opt_outs (choice_id, user_id, sender_id, chosen_at, category, "
            "is_opted_out) values (gen_random_uuid(), :id, 1, now(), 'marketing_messages', true)",
            id=self.clients[client],
        )

    def _press(self, event: Event, on: date) -> None:
        client = event.target % len(self.clients)
        calls = [call for call in self.world.whatsapp.calls if call.user_id == self.clients[client]]
        if not calls:
            return
        self.world.press(calls[-1], event.kind, at(on, "15:00"))
        message = [one for one in self.oracle.messages if one["channel"] == "whatsapp"]
        mine = [
            one
            for one in message
            if any(
                step in self.oracle.steps[cert.number]
                for cert in self.oracle.certs
                if cert.client == client
                for step in one["steps"]
            )
        ]
        for cert in self.oracle.certs:
            for step in self.oracle.steps[cert.number]:
                attempt = step.attempts.get("whatsapp")
                if attempt is not None and attempt[2] is mine[-1]:
                    self.oracle.answers.append((cert.number, step.expires, event.kind))


def _order(told: Told) -> Any:
    when, client, channel, certificates = told
    return (when, client, channel, sorted(certificates))


# A renewal that was evaluated already, and only then the failure of the message before it.
FAILED_AFTER_RENEWAL = Scenario(
    has_email=(True,),
    certs=(Cert(client=0, expires_in=15, shares_service=True),),
    run_days=(0, 1, 2, 3),
    second_run="",
    answers=("accepted",),
    later=(("failed", 2),),
    events=(Event(day=0, kind="renewed_by_another", target=0),),
)


@hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=PHASES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(scenario=scenario_of(("unknown",), second_run="10:00"))  # too early for the next channel
@example(scenario=scenario_of(("unknown",), second_run="13:00"))  # time for it
@example(scenario=scenario_of(("accepted",), events=(Event(1, "renew", 0),)))
@example(
    scenario=scenario_of(("accepted",), siblings=5, events=(Event(0, "renewed_by_another", 0),))
)
@given(scenario=scenarios())
@example(scenario=FAILED_AFTER_RENEWAL)
def test_whatever_the_calendar_the_engine_tells_what_the_oracle_tells(
    make_database: Callable[..., AbstractContextManager[TestDatabase]],
    scenario: Scenario,
) -> None:
    with make_database() as database:
        world = AlertWorld(database)
        world.open_for_business()
        stage = Stage(world, scenario)
        stage.set_up()
        stage.play()
        assert_rules_hold(world)


def assert_rules_hold(world: AlertWorld) -> None:
    """What the ledger must say after any calendar."""
    too_early = world.rows(
        "select 1 from pipeline.certificate_attempts as e "
        "inner join pipeline.certificate_steps as s using (step_id) "
        "left join pipeline.certificate_attempts as w "
        "on w.step_id = e.step_id and w.channel = 'whatsapp' "
        "left join pipeline.alert_messages as m on m.attempt_id = w.attempt_id "
        "where e.channel = 'email' and s.audience = 'client' "
        "and coalesce(m.state, 'none') not in ('failed', 'unknown') "
        # What failed later may have been followed by mail, and delivered is told once more never.
        "and not exists (select from pipeline.message_statuses as t "
        "where t.attempt_id = m.attempt_id)"
    )
    assert too_early == []
    silent = world.rows(
        "select 1 from pipeline.certificate_steps as s where s.audience = 'client' "
        "and s.state = 'told' and not exists (select from pipeline.certificate_attempts as a "
        "where a.step_id = s.step_id)"
    )
    assert silent == []
