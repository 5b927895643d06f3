"""Each row has the signature of whoever acted; those of earlier programs have none."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns, unless 0001 took them over."""
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("ledger")}
    for column in (sa.Column("signing_key", sa.String(64)), sa.Column("signature", sa.Text)):
        if column.name not in there:
            op.add_column("ledger", column)


def downgrade() -> None:
    """Signatures stay."""
    raise NotImplementedError("signatures are never dropped")
