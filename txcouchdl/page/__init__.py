"""A document's page: its attachments, for people and for programs."""
