"""The store of the bundled master's durable state: SQLite or Redis."""
