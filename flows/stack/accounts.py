"""The accounts of MLflow's own basic-auth app, and what each may do.

`python -m flows.stack.accounts`, as the owner of MLflow's database (PGHOST, PGUSER, PGPASSWORD),
makes those that are missing and gives each the password that the environment holds.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

CONFIG = Path(__file__).with_name("accounts.ini")
ADMIN = "admin"
RUNS = "runs"
# Account, and the variable with its password.
PASSWORDS = {
    ADMIN: "MLFLOW_AUTH_ADMIN_PASSWORD",
    RUNS: "MLFLOW_TRACKING_PASSWORD",
    "people": "IML_MLFLOW_PEOPLE_PASSWORD",
    "reader": "IML_MLFLOW_READER_PASSWORD",
}
# Kind of object, and what the account may do with each of them; any account may read all of them.
_RIGHTS = {
    # As on what it has made itself: to take the alias away, MLflow asks for no less.
    RUNS: {"experiment": "MANAGE", "registered_model": "MANAGE"},
    # Aliases and notes of versions, no runs.
    "people": {"registered_model": "EDIT"},
}


def make(database: str, environment: Mapping[str, str]) -> None:
    """Make the accounts that are missing; gives all of them their passwords and rights.

    Args:
        database: the URL of MLflow's database, as its owner.
        environment: holds the passwords.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow's own imports
        from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore()
    store.init_db(database)
    try:
        for name, variable in PASSWORDS.items():
            if store.has_user(name):
                store.update_user(name, password=environment[variable])
            else:
                store.create_user(name, environment[variable], is_admin=name == ADMIN)
            for kind, right in _RIGHTS.get(name, {}).items():
                store.grant_user_permission(name, kind, "*", right)
    finally:
        store.engine.dispose()


if __name__ == "__main__":
    make("postgresql:///mlflow", os.environ)
