-- Documents inside documents, quarantine as a place to work in, and how a person said that a document is to be read.

ALTER TABLE documents ADD COLUMN parent BIGINT REFERENCES documents (document);   -- an attachment's mail, a member's archive
CREATE INDEX documents_parent ON documents (parent);

ALTER TABLE versions ADD COLUMN notes TEXT NOT NULL DEFAULT '';   -- what was lost or guessed in reading it, a line each

ALTER TABLE quarantine ADD COLUMN parent TEXT NOT NULL DEFAULT '';   -- the document that it lies in, by name
ALTER TABLE quarantine ADD COLUMN ignored TEXT NOT NULL DEFAULT '';  -- why a person left it outside, and who
ALTER TABLE quarantine ADD COLUMN ignored_by TEXT NOT NULL DEFAULT '';

CREATE TABLE readings (
  document TEXT PRIMARY KEY,
  parser TEXT NOT NULL,            -- its name; empty: the one that name and bytes choose
  password TEXT NOT NULL,          -- where its password lies (env:NAME, file:PATH); empty: none of its own
  actor TEXT NOT NULL,
  at BIGINT NOT NULL
);
