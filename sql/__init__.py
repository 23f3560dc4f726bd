"""The language: parsing, binding, catalog, sessions, statements, pg_catalog."""
