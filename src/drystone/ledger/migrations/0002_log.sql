-- The log: canonical entries, and the RFC 6962 tree over them. Position of a node as in tlog's StoredHashIndex.
CREATE TABLE log (
  seq INTEGER PRIMARY KEY,          -- 0, 1, 2, ... without a gap
  entry BLOB NOT NULL,              -- canonical JSON (RFC 8785): ids and salted digests, never text
  mac BLOB NOT NULL                 -- keyed digest over seq and leaf: found without a checkpoint who has no key
);
CREATE TABLE log_nodes (position INTEGER PRIMARY KEY, hash BLOB NOT NULL);
CREATE TABLE log_checkpoints (size INTEGER PRIMARY KEY, note TEXT NOT NULL, at INTEGER NOT NULL);

-- Texts beside the log: each sealed under its own key, so that it can go without breaking a proof.
CREATE TABLE contents (id TEXT PRIMARY KEY, kind TEXT NOT NULL, sealed BLOB);   -- sealed NULL: forgotten

-- Statements as they were signed. ``contents``: JSON, kind -> id of the texts beside it (annex, question, ...).
CREATE TABLE passports (
  ref TEXT PRIMARY KEY, seq INTEGER NOT NULL UNIQUE REFERENCES log (seq),
  payload BLOB NOT NULL, signature BLOB NOT NULL, contents TEXT NOT NULL, run TEXT NOT NULL, actor TEXT NOT NULL
);
