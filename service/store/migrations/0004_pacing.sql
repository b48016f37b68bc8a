-- What the pacer has to know after a restart: when a task was last asked, whose requests were counted where, how long
-- operations take, and what an account remembers.

ALTER TABLE submissions ADD COLUMN asked_at BIGINT;

-- Windows are counted per host and per account; a release before this one knows only vendors, and leaves both empty.
-- account is a digest of the credentials. NULL beside a host: counted for the host alone.
ALTER TABLE vendor_requests ADD COLUMN host TEXT;
ALTER TABLE vendor_requests ADD COLUMN account TEXT;
CREATE INDEX vendor_requests_by_host ON vendor_requests (host, started_at);

-- Whose jobs wait for a vendor, and of which operation: each has its turn.
CREATE INDEX jobs_by_lane ON jobs (step, vendor, project_id, operation, due_at) WHERE due_at IS NOT NULL;

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
