"""The stack's addresses and generated passwords: one file, which shells and systemd can read too.

`.state/stack/environment` (mode 0600) is made by the first `iml stack up` and then kept: KEY=value
lines, `set -a; . .state/stack/environment` puts a shell on the stack. `.state/stack` is a link to a
state folder outside the project, which `git clean -x` in the project leaves alone.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import InputError
from components.core.paths import PREFECT, STACK, state_dir
from flows.stack import accounts

# What each server listens on; $IML_POSTGRES_PORT and so on choose another before the first `up`.
PORTS = {"postgres": 5433, "s3": 9000, "mlflow": 5000, "prefect": 4200}
BUCKETS = ("dvc", "mlflow", "inbox")
DATABASES = ("ledger", "mlflow", "prefect")
POOL = "retrain"
USER = "iml"  # owns the databases
# Further roles, which reach the ledger alone (its migrations say what they may do there).
ROLES = {"iml_flows": "IML_FLOWS_PASSWORD", "iml_people": "IML_PEOPLE_PASSWORD"}
_LEDGER_URLS = ("IML_LEDGER_URL", "IML_LEDGER_READ_URL")
_NOW, _NEXT = "environment", "environment.next"


@dataclass(frozen=True)
class Settings:
    """The stack of one state folder.

    Attributes:
        folder: logs, process list, data of the servers.
        environment: what a client of the stack needs, secrets included.
    """

    folder: Path
    environment: Mapping[str, str]

    def port(self, service: str) -> int:
        """The loopback port of a service."""
        return int(self.environment[_port_name(service)])

    def address(self, service: str) -> str:
        """The HTTP address of a service."""
        return f"http://127.0.0.1:{self.port(service)}"

    def database(self, name: str, driver: str = "postgresql", role: str = USER) -> str:
        """The URL of one of the stack's databases, password included."""
        password = self.environment[ROLES.get(role, "IML_POSTGRES_PASSWORD")]
        return f"{driver}://{role}:{password}@127.0.0.1:{self.port('postgres')}/{name}"

    def owner(self) -> dict[str, str]:
        """PostgreSQL's own variables, for a program that is to connect as the owner."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port("postgres")),
            "PGUSER": USER,
            "PGPASSWORD": self.environment["IML_POSTGRES_PASSWORD"],
        }

    def with_ledger(self) -> Settings:
        """These settings with the ledger's addresses, for runs and for people who only read."""
        urls = zip(_LEDGER_URLS, ROLES, strict=True)
        found = {name: self.database("ledger", role=role) for name, role in urls}
        return Settings(self.folder, {**self.environment, **found})

    @property
    def file(self) -> Path:
        """Where the environment is kept."""
        return self.folder / _NOW

    @property
    def postgres_data(self) -> Path:
        """PostgreSQL's own folder."""
        return Path(self.environment["IML_POSTGRES_DATA"])


def _port_name(service: str) -> str:
    return f"IML_{service.upper()}_PORT"


def home() -> Path:
    """The stack's state folder: `$IML_STATE`, else the one of `.state/stack`, else one outside.

    The one outside is named after the project's path, so that it is found again without the link.
    """
    here = state_dir()
    if os.environ.get("IML_STATE"):
        return here
    if (here / STACK).is_dir():
        return (here / STACK).resolve().parent
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    project = Path.cwd()
    digest = hashlib.sha256(os.fsencode(project)).hexdigest()
    return Path(base, "boxpromptiml", f"{project.name}-{digest[:6]}")


def _link() -> None:
    """Let `.state/stack` lead to the stack, if that lies elsewhere."""
    link, folder = state_dir() / STACK, home() / STACK
    if not link.is_dir():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)  # one that leads nowhere
        link.symlink_to(folder)


def load() -> Settings | None:
    """The project's stack; None where none was ever started."""
    return _read(_NOW)


def proposed() -> Settings | None:
    """The settings that an interrupted rotation was about to put in force, if any."""
    return _read(_NEXT)


def _read(name: str) -> Settings | None:
    folder = home() / STACK
    try:
        text = (folder / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    pairs = (line.partition("=") for line in lines)
    return Settings(folder, {name: "".join(shlex.split(value)) for name, _, value in pairs})


def load_or_make() -> Settings:
    """The project's stack, with new passwords where there is none yet."""
    made = load()
    if made is None:
        folder = home() / STACK
        made = Settings(folder, _new_environment(folder))
        _write(made)
    elif missing := _secrets().keys() - made.environment.keys():
        # Of an earlier version, whose runs owned the databases, or whose MLflow had no accounts.
        added = {name: value for name, value in _secrets().items() if name in missing}
        made = Settings(made.folder, {**made.environment, **added}).with_ledger()
        _write(made)
    _link()
    return made


def propose(kept: Settings) -> Settings:
    """New passwords and keys for the stack, written beside those in force until `adopt`."""
    new = Settings(kept.folder, {**kept.environment, **_secrets()}).with_ledger()
    _write(new, _NEXT)
    return new


def adopt(settings: Settings) -> Settings:
    """Put settings in force and drop any proposal."""
    _write(settings)
    (settings.folder / _NEXT).unlink(missing_ok=True)
    return settings


def _secrets() -> dict[str, str]:
    prefect = f"admin:{secrets.token_urlsafe(24)}"
    return {
        "IML_POSTGRES_PASSWORD": secrets.token_urlsafe(24),
        **{name: secrets.token_urlsafe(24) for name in ROLES.values()},
        **{name: secrets.token_urlsafe(24) for name in accounts.PASSWORDS.values()},
        "MLFLOW_TRACKING_USERNAME": accounts.RUNS,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(24),
        "AWS_ACCESS_KEY_ID": secrets.token_hex(16),
        "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(32),
        "PREFECT_SERVER_API_AUTH_STRING": prefect,
        "PREFECT_API_AUTH_STRING": prefect,
    }


def _new_environment(folder: Path) -> dict[str, str]:
    """Addresses and fresh secrets; ports and places in the caller's environment win."""
    ports = {_port_name(name): _port(name, default) for name, default in PORTS.items()}
    data = os.environ.get("IML_POSTGRES_DATA", "").strip() or str(folder / "postgres")
    notify = os.environ.get("IML_NOTIFY", "")
    notices = {"IML_NOTIFY": notify} if notify.strip() else {}
    given = {**_secrets(), **ports, **notices, "IML_POSTGRES_DATA": data}
    first = Settings(folder, given).with_ledger()
    return {
        **first.environment,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": first.address("s3"),
        "PREFECT_API_URL": f"{first.address('prefect')}/api",
        "MLFLOW_TRACKING_URI": first.address("mlflow"),
        "IML_DVC_REMOTE": "s3://dvc",
        "IML_INBOX": "s3://inbox",
        "IML_REPOSITORY": str(Path.cwd()),
        "IML_STATE": str(folder.parent),
        "PREFECT_HOME": str(folder.parent / PREFECT),
    }


def _port(service: str, default: int) -> str:
    name = _port_name(service)
    port = os.environ.get(name, "").strip() or str(default)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(f"{port!r} is not a port", where=name, hint="use a number below 65536")
    return port


def _write(settings: Settings, name: str = _NOW) -> None:
    """Keep the environment where only its owner can read it, from its first byte on."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    settings.folder.chmod(0o711)  # PostgreSQL's own user has to pass through
    rows = [f"{name}={shlex.quote(value)}" for name, value in settings.environment.items()]
    temporary = settings.folder / f".environment-{secrets.token_hex(8)}"
    with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write("\n".join(rows) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(settings.folder / name)
