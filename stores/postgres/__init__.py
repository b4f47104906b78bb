"""PostgreSQL: a schema of its own in any database; the driver is loaded at the first use."""

from livingai.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
