"""Signatures: made so that software which is not ours believes them, and believed only where it would."""

import base64
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from handlers import standardwebhooks

SECRET = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIME = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def delivery(**changes: str) -> dict[str, str]:
    given = {"webhook-id": ID, "webhook-timestamp": str(TIME), "webhook-signature": SIGNATURE}
    return {**given, **{f"webhook-{name}": value for name, value in changes.items()}}


def believed(given: Mapping[str, str], body: bytes = BODY, now: float = TIME, secret: str = SECRET) -> bool:
    try:
        standardwebhooks.verify(secret, given, body, now)
    except standardwebhooks.InvalidSignature:
        return False
    return True


def test_the_known_vector_is_signed_and_believed() -> None:
    key = standardwebhooks.key_of(SECRET)
    assert standardwebhooks.sign(key, ID, TIME, BODY) == SIGNATURE
    assert standardwebhooks.headers([SECRET], ID, TIME, BODY) == delivery()
    assert believed(delivery())
    assert believed(delivery(), secret="whsec_" + SECRET)
    assert Webhook(SECRET).sign(ID, datetime.fromtimestamp(TIME, UTC), BODY.decode()) == SIGNATURE


@pytest.mark.parametrize(
    "listed",
    [
        f"v1,{'A' * 43}= {SIGNATURE}",
        f"{SIGNATURE} v1,{'A' * 43}=",
        f"v1a,{'B' * 86}== {SIGNATURE}",
        f"v2,x {SIGNATURE} v1a,y",
    ],
)
def test_one_good_signature_among_several_is_enough(listed: str) -> None:
    assert believed(delivery(signature=listed))
    assert Webhook(SECRET).verify(BODY, _now(listed)) == {"test": 2432232314}


def _now(listed: str) -> dict[str, str]:
    """The same entries at the machine's time, for a verifier that knows no other."""
    now = int(time.time())
    fresh = standardwebhooks.sign(standardwebhooks.key_of(SECRET), ID, now, BODY)
    return delivery(timestamp=str(now), signature=listed.replace(SIGNATURE, fresh))


REFUSED = {
    "another id": delivery(id="msg_other"),
    "another time": delivery(timestamp=str(TIME + 1)),
    "no time": delivery(timestamp=""),
    "a time that is none": delivery(timestamp="yesterday"),
    "a time without end": delivery(timestamp="9" * 400),
    "no signature": delivery(signature=""),
    "another version of it": delivery(signature=SIGNATURE.replace("v1,", "v1a,")),
    "no version": delivery(signature=SIGNATURE.removeprefix("v1,")),
    "a cut signature": delivery(signature=SIGNATURE[:-1]),
    "entries between commas": delivery(signature=f"v1,x,{SIGNATURE}"),
    "only commas and blanks": delivery(signature=" , ,, "),
    "odd bytes in the signature": delivery(signature="v1,\udcff\udcfe é"),
    "odd bytes in the id": delivery(id="msg_\udcff"),
    "nothing": {},
}


@pytest.mark.parametrize("given", REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused_and_never_a_fault(given: dict[str, str]) -> None:
    assert not believed(given)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_refused(missing: str) -> None:
    given = delivery()
    del given[missing]
    assert not believed(given)


def test_another_body_or_key_is_refused() -> None:
    assert not believed(delivery(), body=BODY + b" ")
    assert not believed(delivery(), body=b"")
    assert not believed(delivery(), secret=standardwebhooks.new_secret())


@pytest.mark.parametrize(
    ("off", "accepted"), [(0, True), (299, True), (300, True), (301, False), (-300, True), (-301, False)]
)
def test_a_replay_after_five_minutes_is_refused_and_so_is_one_from_the_future(off: int, accepted: bool) -> None:
    assert believed(delivery(), now=TIME + off) is accepted


@given(body=st.text().map(str.encode), message_id=st.from_regex(r"[a-zA-Z0-9_]{1,40}", fullmatch=True))
def test_what_we_sign_others_verify_and_what_others_sign_we_verify(body: bytes, message_id: str) -> None:
    secret = standardwebhooks.new_secret()
    now = int(time.time())
    ours = standardwebhooks.headers([secret], message_id, now, body)
    theirs = Webhook(secret).sign(message_id, datetime.fromtimestamp(now, UTC), body.decode())
    assert ours["webhook-signature"] == theirs
    standardwebhooks.verify(secret, {**ours, "webhook-signature": theirs}, body, now)


@pytest.mark.parametrize("change", ["id", "timestamp", "signature", "body", "stale", "missing"])
def test_software_that_is_not_ours_refuses_the_same(change: str) -> None:
    secret, now = standardwebhooks.new_secret(), int(time.time()) - (301 if change == "stale" else 0)
    given = standardwebhooks.headers([secret], ID, now, BODY)
    body = BODY + b" " if change == "body" else BODY
    changes = {"id": "msg_other", "timestamp": str(now - 1), "signature": f"v1,{'A' * 43}="}
    if change in changes:
        given[f"webhook-{change}"] = changes[change]
    if change == "missing":
        del given["webhook-signature"]
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, given)
    with pytest.raises(standardwebhooks.InvalidSignature):
        standardwebhooks.verify(secret, given, body, time.time())


def test_a_new_secret_is_32_fresh_bytes_as_the_standard_shows_them() -> None:
    first, second = standardwebhooks.new_secret(), standardwebhooks.new_secret()
    assert first != second
    assert first.startswith("whsec_")
    assert len(standardwebhooks.key_of(first)) == 32


def test_a_secret_that_is_none_is_refused_without_being_quoted() -> None:
    for text in ("whsec_not base64!", "whsec_äöü", secrets.token_urlsafe(7) + "-_"):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - its text is what is looked at
            standardwebhooks.key_of(text)
        assert text not in str(caught.value)
    raw = secrets.token_bytes(24)
    assert standardwebhooks.key_of(base64.b64encode(raw).decode()) == raw


# RFC 8032, 7.1, test 1: a private key and the public key that belongs to it.
RFC_PRIVATE = (
    "whsk_"
    + base64.b64encode(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")).decode()
)
RFC_PUBLIC = (
    "whpk_"
    + base64.b64encode(bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")).decode()
)


def test_a_public_key_belongs_to_its_private_one_as_the_rfc_says() -> None:
    assert standardwebhooks.public_key_of(RFC_PRIVATE) == RFC_PUBLIC
    # RFC 8037, appendix A.2: the same key as a JWK.
    assert standardwebhooks.jwk(RFC_PUBLIC, "k") == {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "kid": "k",
        "use": "sig",
        "alg": "EdDSA",
    }
    first, second = standardwebhooks.new_private_key(), standardwebhooks.new_private_key()
    assert first != second
    assert first.startswith("whsk_")


def test_a_v1a_signature_is_believed_by_the_public_key_alone() -> None:
    signed = delivery(signature=standardwebhooks.sign_v1a(RFC_PRIVATE, ID, TIME, BODY))
    assert believed(signed, secret=RFC_PUBLIC)
    assert not believed(signed)
    assert not believed(delivery(), secret=RFC_PUBLIC)
    for wrong in (
        delivery(id="msg_other", signature=signed["webhook-signature"]),
        delivery(signature=signed["webhook-signature"].replace("v1a,", "v1,")),
        delivery(signature=signed["webhook-signature"][:-1]),
        delivery(signature="v1a,\udcff\udcfe é"),
        delivery(signature="v1a,"),
        delivery(signature="v1a"),
    ):
        assert not believed(wrong, secret=RFC_PUBLIC)
    assert not believed(signed, body=BODY + b" ", secret=RFC_PUBLIC)
    other = standardwebhooks.public_key_of(standardwebhooks.new_private_key())
    assert not believed(signed, secret=other)


def test_a_list_of_signatures_is_strictly_clean_secrets_first() -> None:
    old, new = standardwebhooks.new_secret(), standardwebhooks.new_secret()
    given = standardwebhooks.headers([new, old], ID, TIME, BODY, [RFC_PRIVATE])
    v1_new, v1_old, v1a = given["webhook-signature"].split(" ")
    assert v1_new == standardwebhooks.sign(standardwebhooks.key_of(new), ID, TIME, BODY)
    assert v1_old == standardwebhooks.sign(standardwebhooks.key_of(old), ID, TIME, BODY)
    assert v1a.startswith("v1a,")
    assert all(believed(given, secret=key) for key in (old, new, RFC_PUBLIC))
    alone = standardwebhooks.headers([], ID, TIME, BODY, [RFC_PRIVATE])["webhook-signature"]
    assert alone == v1a
