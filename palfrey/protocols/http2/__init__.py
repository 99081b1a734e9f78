"""HTTP/2 (RFC 9113): the connection, its streams, and what travels in frames between them and the client."""
