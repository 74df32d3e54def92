"""All that is known about CouchDB: names, documents, and how its bytes are read."""
