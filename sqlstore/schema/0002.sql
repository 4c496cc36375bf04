
-- Why the last offer of a sandbox's events failed, and events that were given
-- up: they count as delivered in outbox.

ALTER TABLE outbox ADD COLUMN reason TEXT NOT NULL DEFAULT '';

CREATE TABLE dead_letters (
	sandbox_id TEXT   NOT NULL,
	seq        BIGINT NOT NULL,
	reason     TEXT   NOT NULL,
	since      BIGINT NOT NULL,
	PRIMARY KEY (sandbox_id, seq),
	FOREIGN KEY (sandbox_id, seq) REFERENCES events (sandbox_id, seq)
);
