
-- Why the last offer of a sandbox's events failed, when they were last made
-- undelivered again, and events that were given up: they count as delivered in
-- outbox. The due of an outbox whose events are claimed names the claim.

ALTER TABLE outbox ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN rewound BIGINT NOT NULL DEFAULT 0;

CREATE TABLE dead_letters (
	sandbox_id TEXT   NOT NULL,
	seq        BIGINT NOT NULL,
	reason     TEXT   NOT NULL,
	since      BIGINT NOT NULL,
	PRIMARY KEY (sandbox_id, seq),
	FOREIGN KEY (sandbox_id, seq) REFERENCES events (sandbox_id, seq)
);
