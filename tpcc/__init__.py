"""The TPC-C runner: a plain PostgreSQL client of any DSN."""
