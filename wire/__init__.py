"""PostgreSQL frontend/backend protocol 3: messages, auth, TLS, connections, COPY framing."""
