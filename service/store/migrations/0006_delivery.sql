-- What a subscriber may ask of its deliveries, and what is remembered of a receiver.

-- filter, rate_limit and retry_schedule are JSON or NULL: none, and of the schedule the
-- service's.
ALTER TABLE endpoints ADD COLUMN filter TEXT;
ALTER TABLE endpoints ADD COLUMN format TEXT NOT NULL DEFAULT 'standard';
ALTER TABLE endpoints ADD COLUMN signatures TEXT NOT NULL DEFAULT '["v1"]';
ALTER TABLE endpoints ADD COLUMN rate_limit TEXT;
ALTER TABLE endpoints ADD COLUMN ordered BIGINT NOT NULL DEFAULT 0;
ALTER TABLE endpoints ADD COLUMN retry_schedule TEXT;

-- Secrets from before a rotation, each with the time until which it signs, encrypted; and the last of these times.
ALTER TABLE endpoints ADD COLUMN old_secrets TEXT;
ALTER TABLE endpoints ADD COLUMN old_secrets_until BIGINT;
CREATE INDEX endpoints_by_old_secrets ON endpoints (old_secrets_until) WHERE old_secrets_until IS NOT NULL;

-- Which secret key a node seals with, by its fingerprint.
ALTER TABLE nodes ADD COLUMN key_fingerprint TEXT;

-- Since when every attempt has failed, and since when its breaker is open.
ALTER TABLE endpoints ADD COLUMN failing_since BIGINT;
ALTER TABLE endpoints ADD COLUMN broken_at BIGINT;

-- Of kind stream: when its connection was last seen.
ALTER TABLE endpoints ADD COLUMN seen_at BIGINT;
CREATE INDEX endpoints_streaming ON endpoints (COALESCE(seen_at, created_at)) WHERE kind = 'stream' AND deleted_at IS NULL;

-- Made as a REST hook: a digest of what it subscribes to, so that the same subscription is found again.
ALTER TABLE endpoints ADD COLUMN hook TEXT;
CREATE UNIQUE INDEX endpoints_by_hook ON endpoints (project_id, hook) WHERE hook IS NOT NULL AND deleted_at IS NULL;

-- Which progress was told last as an event, and when: not more often than every other second.
ALTER TABLE jobs ADD COLUMN progress_told BIGINT;
ALTER TABLE jobs ADD COLUMN progress_told_at BIGINT;

-- round_from: how many attempts were made before this round, whose schedule begins anew. delivered_at: it was delivered
-- before it was sent once more. reopened_at: when somebody last wanted it once more. replay: the replay that owes it,
-- NULL where it is live.
ALTER TABLE deliveries ADD COLUMN round_from BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN delivered_at BIGINT;
ALTER TABLE deliveries ADD COLUMN reopened_at BIGINT;
ALTER TABLE deliveries ADD COLUMN replay BIGINT;

-- An endpoint that is sent one at a time has a line. Its head, if pending, is in a node's hands or due, and there is
-- never a second one; all others wait: nobody's, and not due, what is live before what is replayed.
ALTER TABLE deliveries ADD COLUMN head BIGINT;
CREATE UNIQUE INDEX deliveries_head ON deliveries (endpoint_id) WHERE head IS NOT NULL AND state = 'pending';
-- What waits in a line, and of an endpoint of kind stream all that its client has not come for.
CREATE INDEX deliveries_queued ON deliveries (endpoint_id, (replay IS NOT NULL), event_id)
    WHERE state = 'pending' AND due_at IS NULL AND node IS NULL;

-- An event is owed to an endpoint once, however often it is sent.
DROP INDEX deliveries_by_event;
CREATE UNIQUE INDEX deliveries_by_event ON deliveries (event_id, endpoint_id);
-- What has not ended: pending or held.
CREATE INDEX deliveries_open ON deliveries (endpoint_id, state, id) WHERE finished_at IS NULL;
CREATE INDEX deliveries_reopened ON deliveries (endpoint_id, reopened_at) WHERE reopened_at IS NOT NULL;
CREATE INDEX deliveries_by_replay ON deliveries (replay, finished_at) WHERE replay IS NOT NULL;
CREATE INDEX events_by_time ON events (project_id, created_at, sequence);

-- A range of events that is owed to an endpoint once more: from since to until, the numbers up to last_sequence.
-- after_sequence: how far it has come.
CREATE TABLE replays (
    id {row_id},
    public_id TEXT NOT NULL UNIQUE,
    project_id BIGINT NOT NULL REFERENCES projects (id),
    endpoint_id BIGINT NOT NULL REFERENCES endpoints (id),
    since BIGINT NOT NULL,
    until BIGINT NOT NULL,
    which TEXT NOT NULL,
    state TEXT NOT NULL,
    total BIGINT NOT NULL,
    owed BIGINT NOT NULL DEFAULT 0,
    after_sequence BIGINT NOT NULL,
    last_sequence BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    finished_at BIGINT
);
CREATE INDEX replays_by_project ON replays (project_id, id);
CREATE INDEX replays_by_endpoint ON replays (endpoint_id, id);
CREATE UNIQUE INDEX replays_running ON replays (endpoint_id) WHERE finished_at IS NULL;
CREATE INDEX replays_ended ON replays (finished_at) WHERE finished_at IS NOT NULL;

-- The ed25519 keys of a project; all are published. signs_until: of one from before a rotation, NULL for the newest. The
-- private key is encrypted, and NULL once it has no more to sign.
CREATE TABLE signing_keys (
    id {row_id},
    public_id TEXT NOT NULL UNIQUE,
    project_id BIGINT NOT NULL REFERENCES projects (id),
    public_key TEXT NOT NULL,
    private_key TEXT,
    created_at BIGINT NOT NULL,
    signs_until BIGINT
);
CREATE INDEX signing_keys_by_project ON signing_keys (project_id, id);
CREATE UNIQUE INDEX signing_keys_newest ON signing_keys (project_id) WHERE signs_until IS NULL;
CREATE INDEX signing_keys_retired ON signing_keys (signs_until) WHERE signs_until IS NOT NULL;
