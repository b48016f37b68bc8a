-- Jobs are found by their metadata, counted while they are under way, and may be another try of an earlier one.

-- The public id: the earlier job may be gone before this one.
ALTER TABLE jobs ADD COLUMN retry_of TEXT;

-- How many rows job_metadata has of this job; NULL for the jobs of an earlier release, until a start has filled them in.
ALTER TABLE jobs ADD COLUMN metadata_rows BIGINT;
CREATE INDEX jobs_without_metadata ON jobs (id) WHERE metadata_rows IS NULL;

-- pair is a digest of key and value: short and of one length, whatever alphabet or NUL the value holds.
CREATE TABLE job_metadata (
    job_id BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    project_id BIGINT NOT NULL,
    pair TEXT NOT NULL,
    PRIMARY KEY (job_id, pair)
);
CREATE INDEX job_metadata_by_pair ON job_metadata (project_id, pair, job_id);

CREATE INDEX jobs_open ON jobs (vendor, state, project_id) WHERE finished_at IS NULL;
