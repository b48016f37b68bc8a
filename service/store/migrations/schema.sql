-- The schema of today in one reading: the sum of the migrations, which alone are run. A test holds it to them.
-- Times are milliseconds since 1970, payloads TEXT byte for byte, public ids beside row ids.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE nodes (
    id {row_id},
    public_id TEXT NOT NULL UNIQUE,
    started_at BIGINT NOT NULL,
    beat_at BIGINT NOT NULL,
    ended_at BIGINT,
    -- Which secret key it seals with.
    key_fingerprint TEXT
);

-- last_sequence is the one counter of a project's events: taken last in a unit, so no cursor can miss a late commit.
CREATE TABLE projects (
    id {row_id},
    public_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    webhook_secret TEXT NOT NULL,
    last_sequence BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL
);

CREATE TABLE keys (
    id {row_id},
    public_id TEXT NOT NULL UNIQUE,
    project_id BIGINT NOT NULL REFERENCES projects (id),
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE INDEX keys_by_project ON keys (project_id, id);

CREATE TABLE assets (
    id {row_id},
    public_id TEXT NOT NULL UNIQUE,
    project_id BIGINT NOT NULL REFERENCES projects (id),
    sha256 TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    content_type TEXT NOT NULL,
    width BIGINT NOT NULL,
    height BIGINT NOT NULL,
    filename TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX assets_by_content ON assets (sha256);
CREATE INDEX assets_by_end ON assets (expires_at, id);

-- tries counts a step's tries that the outside world refused, faults those that ended in a fault of ours.
-- step, due_at and node say whose turn it is: which worker, from when, and who holds it now.
CREATE TABLE jobs (
    id {row_id},
    public_id TEXT NOT NULL UNIQUE,
    project_id BIGINT NOT NULL REFERENCES projects (id),
    vendor TEXT NOT NULL,
    operation TEXT NOT NULL,
    state TEXT NOT NULL,
    step TEXT,
    due_at BIGINT,
    node BIGINT,
    tries BIGINT NOT NULL DEFAULT 0,
    faults BIGINT NOT NULL DEFAULT 0,
    request TEXT NOT NULL,
    progress BIGINT,
    submissions BIGINT NOT NULL DEFAULT 0,
    submission_id BIGINT,
    vendor_task_id TEXT,
    created_at BIGINT NOT NULL,
    staged_at BIGINT,
    submitted_at BIGINT,
    finished_at BIGINT,
    error TEXT,
    credits TEXT,
    charged TEXT NOT NULL,
    possible_duplicate_at BIGINT,
    -- The public id: the earlier job may be gone before this one.
    retry_of TEXT,
    -- How many rows job_metadata has of this job; NULL for those of a release before 0.2.0, until a start fills them in.
    metadata_rows BIGINT,
    -- Which progress was told last as an event, and when: not more often than every other second.
    progress_told BIGINT,
    progress_told_at BIGINT
);
CREATE INDEX jobs_by_project ON jobs (project_id, id);
CREATE INDEX jobs_by_lane ON jobs (step, vendor, project_id, operation, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_due ON jobs (step, vendor, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_held ON jobs (node) WHERE node IS NOT NULL;
CREATE INDEX jobs_open ON jobs (vendor, state, project_id) WHERE finished_at IS NULL;
CREATE INDEX jobs_without_metadata ON jobs (id) WHERE metadata_rows IS NULL;

-- pair is a digest of key and value: short and of one length, whatever alphabet or NUL the value holds.
CREATE TABLE job_metadata (
    job_id BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    project_id BIGINT NOT NULL,
    pair TEXT NOT NULL,
    PRIMARY KEY (job_id, pair)
);
CREATE INDEX job_metadata_by_pair ON job_metadata (project_id, pair, job_id);

CREATE TABLE job_inputs (
    job_id BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    asset_id BIGINT REFERENCES assets (id),
    link TEXT,
    PRIMARY KEY (job_id, name)
);
CREATE INDEX job_inputs_by_asset ON job_inputs (asset_id);

CREATE TABLE idempotency_keys (
    project_id BIGINT NOT NULL REFERENCES projects (id),
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    job_id BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, key)
);
CREATE INDEX idempotency_keys_by_job ON idempotency_keys (job_id);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- Only the hash of a submission's callback token is kept.
CREATE TABLE submissions (
    id {row_id},
    job_id BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    project_id BIGINT NOT NULL,
    vendor TEXT NOT NULL,
    number BIGINT NOT NULL,
    token_hash TEXT UNIQUE,
    state TEXT NOT NULL,
    prepared TEXT NOT NULL,
    vendor_task_id TEXT,
    sent_at BIGINT NOT NULL,
    watch_at BIGINT NOT NULL,
    deadline_at BIGINT NOT NULL,
    asks BIGINT NOT NULL DEFAULT 0,
    due_at BIGINT,
    node BIGINT,
    asked_at BIGINT
);
CREATE INDEX submissions_by_job ON submissions (job_id);
CREATE INDEX submissions_by_task ON submissions (vendor, vendor_task_id) WHERE vendor_task_id IS NOT NULL;
CREATE INDEX submissions_open ON submissions (vendor) WHERE state IN ('sending', 'running');
CREATE INDEX submissions_due ON submissions (vendor, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX submissions_held ON submissions (node) WHERE node IS NOT NULL;

-- A body that is no UTF-8 is kept as base64; confirmation is what the vendor answered when we asked about a hint.
CREATE TABLE callbacks (
    id {row_id},
    submission_id BIGINT NOT NULL REFERENCES submissions (id) ON DELETE CASCADE,
    job_id BIGINT NOT NULL,
    via TEXT NOT NULL,
    body TEXT NOT NULL,
    encoding TEXT NOT NULL,
    content_type TEXT NOT NULL,
    status BIGINT,
    digest TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    state TEXT,
    confirmation TEXT,
    read_at BIGINT,
    UNIQUE (submission_id, via, digest)
);
CREATE INDEX callbacks_by_job ON callbacks (job_id, id);

CREATE TABLE results (
    id {row_id},
    job_id BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    dies_at BIGINT,
    kept_at BIGINT,
    sha256 TEXT,
    bytes BIGINT,
    content_type TEXT,
    width BIGINT,
    height BIGINT,
    asset_id BIGINT REFERENCES assets (id),
    UNIQUE (job_id, name)
);
CREATE INDEX results_by_content ON results (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX results_by_asset ON results (asset_id);

CREATE TABLE events (
    id {row_id},
    public_id TEXT NOT NULL UNIQUE,
    project_id BIGINT NOT NULL REFERENCES projects (id),
    sequence BIGINT NOT NULL,
    type TEXT NOT NULL,
    job_id BIGINT,
    payload TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (project_id, sequence)
);
CREATE INDEX events_by_time ON events (project_id, created_at, sequence);
CREATE INDEX events_by_job ON events (job_id) WHERE job_id IS NOT NULL;

-- An endpoint with a job_id is that job's own webhook. Secret and headers are encrypted.
CREATE TABLE endpoints (
    id {row_id},
    public_id TEXT NOT NULL UNIQUE,
    project_id BIGINT NOT NULL REFERENCES projects (id),
    job_id BIGINT,
    kind TEXT NOT NULL,
    url TEXT NOT NULL,
    events TEXT NOT NULL,
    channels TEXT NOT NULL,
    description TEXT NOT NULL,
    headers TEXT NOT NULL,
    secret TEXT NOT NULL,
    max_in_flight BIGINT NOT NULL,
    state TEXT NOT NULL,
    disabled_reason TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT,
    -- filter, rate_limit and retry_schedule are JSON or NULL: none, and of the schedule
    -- the service's.
    filter TEXT,
    format TEXT NOT NULL DEFAULT 'standard',
    signatures TEXT NOT NULL DEFAULT '["v1"]',
    rate_limit TEXT,
    ordered BIGINT NOT NULL DEFAULT 0,
    retry_schedule TEXT,
    -- Secrets from before a rotation, each with the time until which it signs, encrypted; and the last of these times.
    old_secrets TEXT,
    old_secrets_until BIGINT,
    -- Since when every attempt has failed, since when its breaker is open, and until when its receiver asked for rest.
    failing_since BIGINT,
    broken_at BIGINT,
    rest_until BIGINT,
    -- Of kind stream: when its connection was last seen.
    seen_at BIGINT,
    -- Made as a REST hook: a digest of what it subscribes to, so that the same subscription is found again.
    hook TEXT,
    -- A shop's: what may be shown, its credentials by their names, and encrypted. NULL: the kind has none.
    config TEXT
);
CREATE UNIQUE INDEX endpoints_by_hook ON endpoints (project_id, hook) WHERE hook IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX endpoints_by_project ON endpoints (project_id, id) WHERE job_id IS NULL AND deleted_at IS NULL;
CREATE INDEX endpoints_by_job ON endpoints (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX endpoints_by_old_secrets ON endpoints (old_secrets_until) WHERE old_secrets_until IS NOT NULL;
CREATE INDEX endpoints_streaming ON endpoints (COALESCE(seen_at, created_at)) WHERE kind = 'stream' AND deleted_at IS NULL;
CREATE INDEX endpoints_deleted ON endpoints (deleted_at) WHERE deleted_at IS NOT NULL;

-- due_at is set only while a delivery waits here; one that is in a node's hands has its node.
CREATE TABLE deliveries (
    id {row_id},
    public_id TEXT NOT NULL UNIQUE,
    project_id BIGINT NOT NULL,
    event_id BIGINT NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    endpoint_id BIGINT NOT NULL REFERENCES endpoints (id),
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    retry_at BIGINT,
    due_at BIGINT,
    node BIGINT,
    created_at BIGINT NOT NULL,
    finished_at BIGINT,
    -- Since when it is held; a release before 0.2.0 left it empty: then since it was made.
    held_at BIGINT,
    -- How many attempts were made before this round, whose schedule begins anew.
    round_from BIGINT NOT NULL DEFAULT 0,
    -- It was delivered before it was sent once more.
    delivered_at BIGINT,
    -- When somebody last wanted it once more.
    reopened_at BIGINT,
    -- The replay that owes it, NULL where it is live.
    replay BIGINT,
    -- An endpoint that is sent one at a time has a line. Its head, if pending, is in a node's hands or due, and there
    -- is never a second one; all others wait: nobody's, and not due, what is live before what is replayed.
    head BIGINT,
    -- When somebody last wanted this very delivery: it may take the place of what was later then.
    chosen_at BIGINT
);
CREATE UNIQUE INDEX deliveries_head ON deliveries (endpoint_id) WHERE head IS NOT NULL AND state = 'pending';
-- What waits in a line, and of an endpoint of kind stream all that its client has not come for.
CREATE INDEX deliveries_queued ON deliveries (endpoint_id, (replay IS NOT NULL), event_id)
    WHERE state = 'pending' AND due_at IS NULL AND node IS NULL;
CREATE INDEX deliveries_by_project ON deliveries (project_id, id);
-- An event is owed to an endpoint once, however often it is sent.
CREATE UNIQUE INDEX deliveries_by_event ON deliveries (event_id, endpoint_id);
CREATE INDEX deliveries_by_endpoint ON deliveries (endpoint_id, id);
CREATE INDEX deliveries_due ON deliveries (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_held ON deliveries (node) WHERE node IS NOT NULL;
-- What has not ended: pending or held.
CREATE INDEX deliveries_open ON deliveries (endpoint_id, state, id) WHERE finished_at IS NULL;
CREATE INDEX deliveries_reopened ON deliveries (endpoint_id, reopened_at) WHERE reopened_at IS NOT NULL;
CREATE INDEX deliveries_by_replay ON deliveries (replay, finished_at) WHERE replay IS NOT NULL;
CREATE INDEX deliveries_kept ON deliveries (COALESCE(held_at, created_at)) WHERE state = 'held';

-- What is already done of a delivery, so that a retry resumes instead of doing it twice.
CREATE TABLE delivery_steps (
    delivery_id BIGINT NOT NULL REFERENCES deliveries (id) ON DELETE CASCADE,
    step TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (delivery_id, step)
);

-- The latest event whose pictures a product or a variant of a shop was seen to show, for each endpoint: an older one that
-- comes late leaves it its place. It is known as long as the log has it, and so has older ones that may come.
CREATE TABLE shown_at_shops (
    endpoint_id BIGINT NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    place TEXT NOT NULL,
    event_id BIGINT NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    PRIMARY KEY (endpoint_id, place)
);
CREATE INDEX shown_at_shops_by_event ON shown_at_shops (event_id);

CREATE TABLE attempts (
    id {row_id},
    public_id TEXT NOT NULL,
    delivery_id BIGINT NOT NULL REFERENCES deliveries (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    ms BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    status BIGINT,
    error TEXT,
    response_head TEXT
);
CREATE INDEX attempts_by_delivery ON attempts (delivery_id, number);

-- Every request to a vendor with rate windows is counted here before it is sent.
CREATE TABLE vendor_requests (
    id {row_id},
    vendor TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    -- Windows are counted per host and per account (a digest of its credentials; NULL: counted for the host alone).
    host TEXT,
    account TEXT
);
CREATE INDEX vendor_requests_by_host ON vendor_requests (host, started_at);
CREATE INDEX vendor_requests_recent ON vendor_requests (vendor, started_at);

-- How long an operation's tasks live: the weight of each span of time, as JSON.
CREATE TABLE lives (
    vendor TEXT NOT NULL,
    operation TEXT NOT NULL,
    weights TEXT NOT NULL,
    seen BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (vendor, operation)
);

-- An account's own notes: a token, encrypted, or a counter.
CREATE TABLE vendor_memory (
    vendor TEXT NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    sealed TEXT,
    number BIGINT,
    PRIMARY KEY (vendor, account, name)
);

-- What is wrong with an account at a vendor, as it was told. What pauses it has the time of its next probe.
CREATE TABLE vendor_troubles (
    vendor TEXT NOT NULL,
    account TEXT NOT NULL,
    kind TEXT NOT NULL,
    since BIGINT NOT NULL,
    call TEXT NOT NULL,
    error_class TEXT NOT NULL,
    code TEXT NOT NULL,
    probe_at BIGINT,
    probes BIGINT NOT NULL DEFAULT 0,
    credits TEXT,
    PRIMARY KEY (vendor, account, kind)
);

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
