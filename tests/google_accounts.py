"""A service account's way to an access token, by hand: what Google's library does for a client.

For tests of the stand-in, which must not depend on the client that it is there to test.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gatte_pipelines.sandbox.google_calendar import GoogleCalendarStandIn
from gatte_pipelines.sandbox.google_calendar_access import AUDIENCE, GRANT_TYPE
from gatte_pipelines.sandbox.google_calendar_api import EVENTS_SCOPE


def plain_client(**options: Any) -> httpx.Client:
    """A client for loopback: one that reads no authorities, which takes longer than most tests."""
    return httpx.Client(
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False, timeout=5, **options
    )


def assertion_of(credentials: dict[str, Any], *, algorithm: str = "RS256", **claims: Any) -> str:
    """Sign an assertion with the key of credentials; None takes a claim away."""
    issued = int(time.time())
    made = {
        "iss": credentials["client_email"],
        "scope": EVENTS_SCOPE,
        "aud": AUDIENCE,
        "iat": issued,
        "exp": issued + 3600,
        **claims,
    }
    header = {"alg": algorithm, "typ": "JWT", "kid": credentials["private_key_id"]}
    kept = {key: one for key, one in made.items() if one is not None}
    signed = ".".join(_encoded(json.dumps(part).encode()) for part in (header, kept))
    pem = credentials["private_key"].encode()
    key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, RSAPrivateKey)
    return f"{signed}.{_encoded(key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


def ask_for_token(
    stand_in: GoogleCalendarStandIn, folder: Path, *, is_foreign: bool = False, **claims: Any
) -> httpx.Response:
    """Write credentials, sign an assertion, and ask for a token."""
    path = stand_in.write_credentials(folder / "credentials.json", is_foreign=is_foreign)
    assertion = assertion_of(json.loads(path.read_text()), **claims)
    form = {"grant_type": GRANT_TYPE, "assertion": assertion}
    with plain_client() as client:
        return client.post(stand_in.token_url, data=form)


def bearer(stand_in: GoogleCalendarStandIn, folder: Path, **claims: Any) -> dict[str, str]:
    """The header of a request that is allowed."""
    answer = ask_for_token(stand_in, folder, **claims)
    assert answer.is_success, answer.text
    return {"authorization": f"Bearer {answer.json()['access_token']}"}


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
