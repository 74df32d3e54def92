"""
An embedded store that speaks the part of the CouchDB API that the gateway and a newcomer need.

    web             HTTP in and out: the Site, requests, the last line of defence
    uploads         the body of a request while it arrives
    app             the Klein app: what each address answers to each method
    request_values  a request -> its conditions, revision, claim or login
    addresses       raw request target -> address and query (pure)
    query_values    values of query parameters (pure)
    listing         the query of _all_dbs -> a part of all names (pure)
    selection       (request, stored attachment) -> status, headers and bytes to send (pure)
    drafts          a document's JSON as a client sends it -> what it asks to be written (pure)
    claims          which revision a writer says the write follows (pure)
    rendering       a stored revision -> the JSON a client reads (pure)
    values          what is stored: revisions, attachments, bodies (pure)
    json_text       JSON -> the values that CouchDB's parser gives, and back (pure)
    json_bodies     the JSON body of a request, perhaps in gzip -> its text
    revision_ids    a revision's content -> its id, as CouchDB computes it (pure)
    external_terms  Erlang's external term format, which these ids are computed from (pure)
    checksums       damage to stored revisions, found by checksums (pure)
    answers         answers and refusals in CouchDB's shape (pure)
    credentials     the one admin (pure)
    sessions        the sender of a request: the admin, by password or by cookie, or nobody (pure)
    logins          the body of a login -> a name and a password (pure)
    sending         a body to one client, with back-pressure
    bodies          the bytes of a stored body, piece by piece
    packing         uploaded bytes -> stored bytes: CouchDB's gzip
    store           the store itself: threads, the lock, the order in which things become durable
    catalogue       what SQLite remembers: reading it
    edits           what SQLite remembers: changing it, by CouchDB's revision rules
    schema          the SQLite file: opened, recognised, created, migrated
    blobs           attachment bodies, in files named by their SHA-256
    errors          what goes wrong that is not the client's doing
    trouble         what of it a client, or the operator, is told (pure)
    admin           the file that names the admin
    private_files   files and directories that are the user's alone

Everything is in one directory: ``store.sqlite3`` (with its ``-wal`` and ``-shm``), ``blobs/``, ``incoming/``
and ``lock``.
"""
