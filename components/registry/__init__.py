"""Registry: the promotion ledger, MLflow tracking, gates, promotion and rollback."""
