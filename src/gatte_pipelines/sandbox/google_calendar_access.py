"""Who may ask the stand-in for Google Calendar: a service account, its key, scopes and tokens.

A signed assertion is exchanged for an access token; what a token allows belongs to the endpoints.
Sources: Google's text on service accounts (RFC 7523), field reports for the words of refusals.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gatte_pipelines.sandbox.google_calendar_faults import (
    GoogleFault,
    TokenRefusedError,
    token_refusal_of,
)

AUDIENCE: Final = "https://oauth2.googleapis.com/token"
"""What every assertion is made for, whatever address it is posted to."""

SCOPE_PREFIX: Final = "https://www.googleapis.com/auth/"
GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CLIENT_EMAIL: Final = "gatte-agenda@gatte-sandbox.iam.example.com"

_KEY_BITS = 2048
_MAX_LIFETIME = timedelta(hours=1)
# How far the clocks of two machines may be apart.
_SKEW = timedelta(minutes=5)


@cache
def _key(number: int) -> RSAPrivateKey:
    """A key of this process: making one takes longer than most tests."""
    del number
    return generate_private_key(public_exponent=65537, key_size=_KEY_BITS)


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What an access token allows.

    Attributes:
        subject: The user who is acted for; None for the service account itself.
    """

    scopes: frozenset[str]
    subject: str | None
    expires_at: datetime


@dataclass(kw_only=True)
class ServiceAccount:
    """One service account and the tokens that it was given.

    Attributes:
        delegated: Scopes that a domain's administrator lets it use in the name of its users; None
            where no domain does.
        granted_scopes: What tokens are given for in place of the scopes asked for; None for these.
        lifetime: Of an access token.
        now: The clock of assertions and tokens: the real one, since a client's library takes that.
    """

    client_email: str = CLIENT_EMAIL
    delegated: frozenset[str] | None = None
    granted_scopes: frozenset[str] | None = None
    lifetime: timedelta = _MAX_LIFETIME
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _grants: dict[str, Grant] = field(default_factory=dict, repr=False)

    def credentials(self, token_url: str, *, is_foreign: bool = False) -> dict[str, Any]:
        """What stands in the file that Google hands out for a key.

        Args:
            token_url: Where tokens are to be had.
            is_foreign: With a key that was never this account's.
        """
        number = 1 if is_foreign else 0
        private = _key(number).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {
            "type": "service_account",
            "project_id": "gatte-sandbox",
            "private_key_id": f"{number:040x}",
            "private_key": private.decode(),
            "client_email": self.client_email,
            "client_id": "100000000000000000001",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": token_url,
            "universe_domain": "googleapis.com",
        }

    def expire_tokens(self) -> None:
        """Let every access token so far be over."""
        self._grants.clear()

    def grant_of(self, authorization: str) -> Grant | None:
        """What the token in a header allows; None where it is none, or over."""
        kind, _, token = authorization.partition(" ")
        grant = self._grants.get(token) if kind == "Bearer" else None
        return grant if grant is not None and self.now() < grant.expires_at else None

    def exchange(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Exchange an assertion for an access token.

        Raises:
            TokenRefusedError: It is not believed, or asks for what is not allowed.
        """
        if form.get("grant_type") != GRANT_TYPE:
            raise TokenRefusedError(400, "unsupported_grant_type", "Invalid grant_type")
        claims = self._claims_of(form.get("assertion", ""))
        scopes = frozenset(str(claims.get("scope", "")).split())
        if not scopes or not all(one.startswith(SCOPE_PREFIX) for one in scopes):
            raise token_refusal_of(GoogleFault.INVALID_SCOPE)
        subject = claims.get("sub")
        if subject == self.client_email:
            subject = None
        if subject is not None and (self.delegated is None or not scopes <= self.delegated):
            raise token_refusal_of(GoogleFault.UNAUTHORIZED_CLIENT)
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self._grants[token] = Grant(
            scopes=scopes if self.granted_scopes is None else self.granted_scopes,
            subject=subject,
            expires_at=self.now() + self.lifetime,
        )
        seconds = max(1, int(self.lifetime.total_seconds()) - 1)
        return {"access_token": token, "expires_in": seconds, "token_type": "Bearer"}

    def _claims_of(self, assertion: str) -> dict[str, Any]:
        try:
            signed, _, signature = assertion.rpartition(".")
            header, claims = (_decoded(part) for part in signed.split("."))
            _key(0).public_key().verify(_bytes_of(signature), signed.encode(), PKCS1v15(), SHA256())
        except (ValueError, binascii.Error, InvalidSignature):
            raise token_refusal_of(GoogleFault.INVALID_GRANT) from None
        if header.get("alg") != "RS256":
            raise token_refusal_of(GoogleFault.INVALID_GRANT)
        if claims.get("iss") != self.client_email:
            raise TokenRefusedError(400, "invalid_grant", "Invalid grant: account not found")
        if claims.get("aud") != AUDIENCE:
            raise TokenRefusedError(400, "invalid_grant", "Invalid JWT: Failed audience check.")
        if not self._is_in_time(claims.get("iat"), claims.get("exp")):
            raise TokenRefusedError(
                400,
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable"
                " timeframe. Check your iat and exp values in the JWT claim.",
            )
        return claims

    def _is_in_time(self, issued: object, expires: object) -> bool:
        if not isinstance(issued, int | float) or not isinstance(expires, int | float):
            return False
        now, skew = self.now().timestamp(), _SKEW.total_seconds()
        is_short = 0 < expires - issued <= _MAX_LIFETIME.total_seconds()
        return is_short and issued <= now + skew and expires > now - skew


def _bytes_of(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _decoded(part: str) -> dict[str, Any]:
    read = json.loads(_bytes_of(part))
    if not isinstance(read, dict):
        raise ValueError("not an object")  # noqa: TRY004 - refused like every other text
    return read
