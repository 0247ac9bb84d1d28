-- The catalogue, the runs and the lineage. Times are milliseconds (UTC). An open interval ends in NULL.
-- Statements that use these tables stay within what PostgreSQL understands too.

CREATE TABLE format (number INTEGER PRIMARY KEY);

CREATE TABLE clock (id INTEGER PRIMARY KEY CHECK (id = 1), at BIGINT NOT NULL);
INSERT INTO clock (id, at) VALUES (1, 0);

CREATE TABLE counters (name TEXT PRIMARY KEY, next BIGINT NOT NULL);
INSERT INTO counters (name, next) VALUES ('document', 0), ('version', 0), ('chunk', 0);

CREATE TABLE runs (
  run TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  actor TEXT NOT NULL,
  started BIGINT NOT NULL,
  ended BIGINT,
  state TEXT NOT NULL,             -- open, closed, failed, sealed, refused, withheld
  facts TEXT NOT NULL,             -- JSON: what the run was started with
  record TEXT                      -- JSON: notes, costs, timings, outcome; never text of a document or a prompt
);
CREATE INDEX runs_started ON runs (started);

CREATE TABLE commits (
  n INTEGER PRIMARY KEY,
  at BIGINT NOT NULL,
  run TEXT NOT NULL,
  key TEXT NOT NULL UNIQUE,
  tables TEXT NOT NULL,            -- JSON: table -> Lance version
  generation TEXT,
  policy TEXT NOT NULL,
  sequence BIGINT NOT NULL,
  counts TEXT NOT NULL             -- JSON: added, changed, relabelled, removed
);

CREATE TABLE pointer (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  n BIGINT NOT NULL,
  tables TEXT NOT NULL,
  generation TEXT,
  policy TEXT NOT NULL,
  sequence BIGINT NOT NULL
);
INSERT INTO pointer (id, n, tables, generation, policy, sequence) VALUES (1, 0, '{}', NULL, '', 0);

CREATE TABLE sources (source INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE documents (
  document INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,       -- source:path or source:id
  source BIGINT NOT NULL REFERENCES sources (source),
  first_seen BIGINT NOT NULL
);
CREATE INDEX documents_source ON documents (source);

CREATE TABLE versions (
  version INTEGER PRIMARY KEY,
  ref TEXT NOT NULL,               -- v:...
  document BIGINT NOT NULL REFERENCES documents (document),
  asset TEXT NOT NULL,             -- b:...
  size BIGINT NOT NULL,
  media_type TEXT NOT NULL,
  title TEXT NOT NULL,
  transform TEXT NOT NULL,         -- t:...
  from_commit BIGINT NOT NULL REFERENCES commits (n),
  to_commit BIGINT REFERENCES commits (n),
  chunk_first BIGINT NOT NULL,
  chunk_count BIGINT NOT NULL,
  renamed_from TEXT,
  run TEXT NOT NULL
);
CREATE UNIQUE INDEX versions_current ON versions (document) WHERE to_commit IS NULL;
CREATE INDEX versions_document ON versions (document);
CREATE INDEX versions_ref ON versions (ref);
CREATE INDEX versions_asset ON versions (asset);
CREATE INDEX versions_from ON versions (from_commit);
CREATE INDEX versions_to ON versions (to_commit);

CREATE TABLE fingerprints (
  document BIGINT PRIMARY KEY REFERENCES documents (document),
  fingerprint TEXT NOT NULL
);

CREATE TABLE labels (label INTEGER PRIMARY KEY, canonical TEXT NOT NULL UNIQUE);

-- ``label`` is in force; ``base`` is what the door gave, before a person's override.
CREATE TABLE label_intervals (
  document BIGINT NOT NULL REFERENCES documents (document),
  from_commit BIGINT NOT NULL REFERENCES commits (n),
  to_commit BIGINT REFERENCES commits (n),
  label BIGINT NOT NULL REFERENCES labels (label),
  expires BIGINT,
  base BIGINT NOT NULL REFERENCES labels (label),
  base_expires BIGINT,
  base_origin TEXT NOT NULL,
  origin TEXT NOT NULL,
  override BOOLEAN NOT NULL,
  run TEXT NOT NULL,
  PRIMARY KEY (document, from_commit)
);
CREATE UNIQUE INDEX label_intervals_current ON label_intervals (document) WHERE to_commit IS NULL;
CREATE INDEX label_intervals_from ON label_intervals (from_commit);
CREATE INDEX label_intervals_to ON label_intervals (to_commit);

-- A person's dated override of a document: one row with ``asset = ''``, and, if it asks for more than the door
-- did, one for each content the document has had since (b:...), so that a copy or a rename keeps it.
-- ``against`` is the base label that the person saw.
CREATE TABLE overrides (
  document TEXT NOT NULL,
  asset TEXT NOT NULL,
  label BIGINT NOT NULL REFERENCES labels (label),
  expires BIGINT,
  against BIGINT NOT NULL REFERENCES labels (label),
  against_expires BIGINT,
  tightens BOOLEAN NOT NULL,
  origin TEXT NOT NULL,
  n BIGINT NOT NULL REFERENCES commits (n),
  run TEXT NOT NULL,
  PRIMARY KEY (document, asset)
);
CREATE INDEX overrides_asset ON overrides (asset);

CREATE TABLE quarantine (
  document TEXT PRIMARY KEY,
  source TEXT NOT NULL,
  kind TEXT NOT NULL,
  reason TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  transform TEXT NOT NULL,
  at BIGINT NOT NULL
);
CREATE INDEX quarantine_source ON quarantine (source);

CREATE TABLE nodes (node INTEGER PRIMARY KEY, ref TEXT NOT NULL UNIQUE, kind TEXT NOT NULL);
CREATE TABLE edges (
  made BIGINT NOT NULL,
  of BIGINT NOT NULL,
  kind TEXT NOT NULL,
  transform TEXT NOT NULL,
  run TEXT NOT NULL,
  PRIMARY KEY (made, of, kind)
) WITHOUT ROWID;
CREATE INDEX edges_of ON edges (of, made);
