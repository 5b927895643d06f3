"""What Alembic runs: the migrations over the connection that `ledger` gives."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # A name of its own: MLflow keeps its `alembic_version` in what may be the same database.
    version_table=context.config.attributes["version_table"],
)
with context.begin_transaction():
    context.run_migrations()
