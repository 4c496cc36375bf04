-- Times are microseconds since 1970 in UTC. A document is the JSON of a whole
-- value; the columns beside it are what queries need.

CREATE TABLE sandboxer_schema (
	version BIGINT NOT NULL
);

CREATE TABLE sandboxes (
	id              TEXT   NOT NULL PRIMARY KEY,
	revision        BIGINT NOT NULL,
	seq             BIGINT NOT NULL,
	state           TEXT   NOT NULL,
	project         TEXT   NOT NULL,
	actor_type      TEXT   NOT NULL,
	profile         TEXT   NOT NULL,
	host            TEXT   NOT NULL,
	idempotency_key TEXT,
	created_at      BIGINT NOT NULL,
	expires_at      BIGINT NOT NULL,
	document        TEXT   NOT NULL,
	UNIQUE (project, idempotency_key)
);

CREATE INDEX sandboxes_by_age ON sandboxes (created_at, id);
CREATE INDEX sandboxes_by_state ON sandboxes (state);
CREATE INDEX sandboxes_by_host ON sandboxes (host);

CREATE TABLE labels (
	sandbox_id TEXT NOT NULL REFERENCES sandboxes (id),
	name       TEXT NOT NULL,
	value      TEXT NOT NULL,
	PRIMARY KEY (sandbox_id, name)
);

CREATE INDEX labels_by_value ON labels (name, value, sandbox_id);

CREATE TABLE events (
	sandbox_id TEXT   NOT NULL REFERENCES sandboxes (id),
	seq        BIGINT NOT NULL,
	time       BIGINT NOT NULL,
	document   TEXT   NOT NULL,
	PRIMARY KEY (sandbox_id, seq)
);

CREATE TABLE outbox (
	sandbox_id TEXT   NOT NULL PRIMARY KEY REFERENCES sandboxes (id),
	last       BIGINT NOT NULL, -- seq of the sandbox's last event
	delivered  BIGINT NOT NULL, -- seq of the last one delivered
	claimed    BIGINT NOT NULL, -- seq of the last one in the running claim
	failures   BIGINT NOT NULL, -- in a row
	due        BIGINT NOT NULL  -- not to be claimed before
);

CREATE INDEX outbox_due ON outbox (due, sandbox_id) WHERE delivered < last;
