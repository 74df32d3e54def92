"""HTTP/1.1 as it is spoken to a node: our own client, from the request's bytes to the body's."""
