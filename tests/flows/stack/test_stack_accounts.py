"""MLflow's accounts in its own store; what each may do on a server: tests/e2e/test_attacks.py."""

from __future__ import annotations

from pathlib import Path

from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

from flows.stack import accounts


def passwords(said: str) -> dict[str, str]:
    return {variable: f"{said} of {name}" for name, variable in accounts.PASSWORDS.items()}


def test_accounts_are_made_once_and_follow_their_passwords(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/mlflow.db"
    for said in ("first secret", "first secret", "next secret"):  # each `iml stack up`, a rotation
        accounts.make(database, passwords(said))
    store = SqlAlchemyStore()
    store.init_db(database)
    try:
        users = {user.username: user.is_admin for user in store.list_users()}
        assert users == {name: name == "admin" for name in accounts.PASSWORDS}
        for name in users:
            assert store.authenticate_user(name, f"next secret of {name}")
            assert not store.authenticate_user(name, f"first secret of {name}")
        rights = {
            (name, row.resource_type, row.permission)
            for name in users
            for role in store.list_user_roles(store.get_user(name).id)
            for row in store.list_role_permissions(role.id)
        }
        assert rights == {
            ("runs", "experiment", "MANAGE"),
            ("runs", "registered_model", "MANAGE"),
            ("people", "registered_model", "EDIT"),
        }
    finally:
        store.engine.dispose()
