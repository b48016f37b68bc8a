-- name: add
INSERT INTO endpoints (
    public_id, project_id, job_id, kind, url, events, channels, filter, description, headers, secret, format,
    signatures, rate_limit, max_in_flight, ordered, retry_schedule, state, created_at, updated_at
)
VALUES (
    :public_id, :project, :job, :kind, :url, :events, :channels, :filter, :description, :headers, :secret, :format,
    :signatures, :rate_limit, :max_in_flight, :ordered, :retry_schedule, 'enabled', :now, :now
)
RETURNING *;

-- name: get
SELECT * FROM endpoints
WHERE public_id = :public_id AND project_id = :project AND deleted_at IS NULL AND job_id IS NULL;

-- name: by_row
SELECT * FROM endpoints WHERE id = :endpoint AND deleted_at IS NULL;

-- name: locked
SELECT * FROM endpoints WHERE id = :endpoint AND deleted_at IS NULL /*postgres FOR NO KEY UPDATE */;

-- name: list
SELECT * FROM endpoints
WHERE project_id = :project AND job_id IS NULL AND deleted_at IS NULL AND id > :after
ORDER BY id LIMIT :limit;

-- name: count
SELECT COUNT(*) AS count FROM endpoints WHERE project_id = :project AND job_id IS NULL AND deleted_at IS NULL;

-- name: of_event
SELECT * FROM endpoints WHERE project_id = :project AND job_id IS NULL AND deleted_at IS NULL
UNION ALL
SELECT * FROM endpoints WHERE job_id = :job AND deleted_at IS NULL;

-- name: change
UPDATE endpoints SET url = :url, events = :events, channels = :channels, filter = :filter, description = :description,
    headers = :headers, format = :format, signatures = :signatures, rate_limit = :rate_limit,
    max_in_flight = :max_in_flight, ordered = :ordered, retry_schedule = :retry_schedule, updated_at = :now
WHERE id = :endpoint AND deleted_at IS NULL;

-- name: disable
UPDATE endpoints SET state = 'disabled', disabled_reason = :reason, updated_at = :now
WHERE id = :endpoint AND state <> 'disabled' AND deleted_at IS NULL
RETURNING *;

-- name: enable
UPDATE endpoints SET state = 'enabled', disabled_reason = NULL, updated_at = :now
WHERE id = :endpoint AND state <> 'enabled' AND deleted_at IS NULL;

-- name: delete
UPDATE endpoints SET deleted_at = :now, updated_at = :now
WHERE id = :endpoint AND deleted_at IS NULL;

-- name: forget
DELETE FROM endpoints
WHERE id IN (
    SELECT id FROM endpoints
    WHERE deleted_at IS NOT NULL AND deleted_at <= :before
      AND NOT EXISTS (SELECT 1 FROM deliveries WHERE endpoint_id = endpoints.id)
      AND NOT EXISTS (SELECT 1 FROM replays WHERE endpoint_id = endpoints.id)
    ORDER BY deleted_at LIMIT :limit
);
