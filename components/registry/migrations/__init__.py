"""Alembic migrations of the ledger's schema; see `components.registry.ledger`."""
