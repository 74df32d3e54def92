"""An embedded store that speaks the part of the CouchDB API that the gateway and a newcomer need."""
