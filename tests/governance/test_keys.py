"""API keys: who is let in, as whom, and for how long."""

from __future__ import annotations

import time

import pytest
from installation import open_world

from headrace.governance.keys import Authenticator, create, keys, revoke
from headrace.kernel.errors import InvalidInput, NotFound, Unauthenticated
from headrace.kernel.identity import LOCAL, Role


@pytest.fixture
def ctx(tmp_path):
    return open_world(tmp_path)


def authenticate(ctx, header, *, loopback):
    return Authenticator(ctx).authenticate(header, loopback=loopback)


@pytest.mark.parametrize("role", list(Role))
def test_a_key_gives_its_name_and_role(ctx, role):
    made = create(ctx, name="ci", role=role)
    principal = authenticate(ctx, f"Bearer {made.key}", loopback=False)
    assert (principal.id, principal.name, principal.role) == (made.id, "ci", role)
    assert made.key.startswith(f"hr_{made.id}_")


def test_the_secret_is_nowhere_in_the_catalog(ctx, tmp_path):
    made = create(ctx, name="ci", role=Role.VIEWER)
    secret = made.key.rpartition("_")[2].encode()
    ctx.catalog.close()
    assert len(secret) == 64
    for file in (tmp_path / "data").glob("catalog.sqlite*"):
        assert secret not in file.read_bytes()


def test_without_a_header_only_loopback_before_the_first_key_is_let_in(ctx):
    assert authenticate(ctx, None, loopback=True) == LOCAL
    with pytest.raises(Unauthenticated):
        authenticate(ctx, None, loopback=False)
    made = create(ctx, name="ci", role=Role.VIEWER)
    with pytest.raises(Unauthenticated):
        authenticate(ctx, None, loopback=True)
    revoke(ctx, id=made.id)
    with pytest.raises(Unauthenticated):
        authenticate(ctx, None, loopback=True)


def test_wrong_keys_are_refused_and_never_repeated(ctx):
    made = create(ctx, name="ci", role=Role.VIEWER)
    other = create(ctx, name="other", role=Role.ADMIN)
    swapped = f"hr_{other.id}_{made.key.rpartition('_')[2]}"
    wrong = [made.key[:-1], f"{made.key}0", made.key.replace("hr_", "hx_"), swapped, "", "hr__", f"hr_{made.id}_", "é"]
    headers = [f"Bearer {key}" for key in wrong] + [made.key, f"Basic {made.key}", "", "Bearer"]
    for header in headers:
        with pytest.raises(Unauthenticated) as refused:
            authenticate(ctx, header, loopback=True)
        assert made.key.rpartition("_")[2][:20] not in str(refused.value)


def test_a_key_of_another_system_is_unknown(ctx, tmp_path):
    churn = open_world(tmp_path, "churn")
    made = create(churn, name="ci", role=Role.ADMIN)
    with pytest.raises(Unauthenticated):
        authenticate(ctx, f"Bearer {made.key}", loopback=True)
    assert authenticate(ctx, None, loopback=True) == LOCAL
    assert keys(ctx) == []
    with pytest.raises(NotFound):
        revoke(ctx, id=made.id)
    assert [k.revoked_at for k in keys(churn)] == [None]


def test_two_keys_live_side_by_side_and_a_revoked_one_dies_within_a_second(ctx, tmp_path):
    serving = Authenticator(open_world(tmp_path))
    old, new = create(ctx, name="old", role=Role.SERVICE), create(ctx, name="new", role=Role.SERVICE)
    for key in (old, new):
        assert serving.authenticate(f"bearer {key.key}", loopback=False).id == key.id
    revoke(ctx, id=old.id)
    revoke(ctx, id=old.id)
    time.sleep(1.0)
    with pytest.raises(Unauthenticated):
        serving.authenticate(f"Bearer {old.key}", loopback=False)
    assert serving.authenticate(f"Bearer {new.key}", loopback=False).name == "new"
    assert [(k.id, k.role, k.revoked_at is None) for k in keys(ctx)] == [
        (old.id, Role.SERVICE, False),
        (new.id, Role.SERVICE, True),
    ]


def test_bad_names_are_refused(ctx):
    with pytest.raises(InvalidInput, match="name"):
        create(ctx, name=" ", role=Role.VIEWER)
