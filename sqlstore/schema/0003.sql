-- Lists of all events begin somewhere and end soon.

CREATE INDEX events_by_time ON events (time, sandbox_id, seq);
