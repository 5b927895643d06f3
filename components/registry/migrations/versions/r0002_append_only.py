"""On PostgreSQL no row is changed or deleted, and each role may do what it is for.

`FLOWS` appends and reads, `PEOPLE` reads; a server that has no such roles has the trigger alone.
SQLite knows no roles, and who may write its file may write all of it.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

FLOWS, PEOPLE = "iml_flows", "iml_people"
_REFUSE = """
CREATE OR REPLACE FUNCTION ledger_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'insufficient_privilege';
END $$
"""
_TRIGGER = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only()
"""
_GRANT = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        GRANT {rights} ON ledger TO {role};
        GRANT SELECT ON ledger_schema TO {role};
    END IF;
END $$
"""


def upgrade() -> None:
    """Add trigger and rights."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute(_REFUSE)
    op.execute("DROP TRIGGER IF EXISTS append_only ON ledger")
    op.execute(_TRIGGER)
    op.execute(_GRANT.format(role=FLOWS, rights="SELECT, INSERT"))
    op.execute(_GRANT.format(role=PEOPLE, rights="SELECT"))


def downgrade() -> None:
    """What was refused stays refused."""
    raise NotImplementedError("the ledger stays append-only")
