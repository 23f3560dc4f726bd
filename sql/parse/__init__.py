"""SQL text to statements: the sqlglot dialect, our own statement front end, literal lifting."""
