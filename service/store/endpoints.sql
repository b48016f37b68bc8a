-- name: add
INSERT INTO endpoints (
    public_id, project_id, job_id, kind, url, events, channels, filter, description, headers, secret, format,
    signatures, rate_limit, max_in_flight, ordered, retry_schedule, config, hook, state, created_at, updated_at
)
VALUES (
    :public_id, :project, :job, :kind, :url, :events, :channels, :filter, :description, :headers, :secret, :format,
    :signatures, :rate_limit, :max_in_flight, :ordered, :retry_schedule, :config, :hook, 'enabled', :now, :now
)
RETURNING *;

-- name: get
SELECT * FROM endpoints
WHERE public_id = :public_id AND project_id = :project AND deleted_at IS NULL AND job_id IS NULL;

-- name: hook
SELECT * FROM endpoints WHERE project_id = :project AND hook = :hook AND deleted_at IS NULL;

-- name: by_row
SELECT * FROM endpoints WHERE id = :endpoint AND deleted_at IS NULL;

-- name: locked
SELECT * FROM endpoints WHERE id = :endpoint AND deleted_at IS NULL /*postgres FOR NO KEY UPDATE */;

-- name: list
SELECT * FROM endpoints
WHERE project_id = :project AND job_id IS NULL AND deleted_at IS NULL AND id > :after
  AND (CAST(:hooks_only AS BIGINT) = 0 OR hook IS NOT NULL)
ORDER BY id LIMIT :limit;

-- name: count
SELECT COUNT(*) AS count FROM endpoints WHERE project_id = :project AND job_id IS NULL AND deleted_at IS NULL;

-- name: of_event
SELECT * FROM endpoints WHERE project_id = :project AND job_id IS NULL AND deleted_at IS NULL
UNION ALL
SELECT * FROM endpoints WHERE job_id = :job AND deleted_at IS NULL;

-- A new address, or a shop with a new config, has not failed yet; whether it is well again, the next attempt shows.
-- name: change
UPDATE endpoints SET url = :url, events = :events, channels = :channels, filter = :filter, description = :description,
    headers = :headers, format = :format, signatures = :signatures, rate_limit = :rate_limit,
    max_in_flight = :max_in_flight, ordered = :ordered, retry_schedule = :retry_schedule, updated_at = :now,
    config = CAST(:config AS TEXT),
    failing_since = CASE WHEN failing_since IS NOT NULL AND (url <> :url OR config <> CAST(:config AS TEXT))
        THEN CAST(:now AS BIGINT) ELSE failing_since END,
    hook = CASE WHEN hook IS NOT NULL THEN CAST(:hook AS TEXT) END
WHERE id = :endpoint AND deleted_at IS NULL;

-- name: rotate
UPDATE endpoints SET secret = :secret, old_secrets = :old_secrets, old_secrets_until = :old_until, updated_at = :now
WHERE id = :endpoint AND deleted_at IS NULL;

-- name: drop_old_secrets
UPDATE endpoints SET old_secrets = NULL, old_secrets_until = NULL
WHERE id IN (SELECT id FROM endpoints WHERE old_secrets_until <= :now ORDER BY old_secrets_until LIMIT :limit);

-- name: disable
UPDATE endpoints SET state = 'disabled', disabled_reason = :reason, updated_at = :now
WHERE id = :endpoint AND state <> 'disabled' AND deleted_at IS NULL
RETURNING *;

-- What was known of a receiver that somebody vouches for is forgotten.
-- name: enable
UPDATE endpoints SET state = 'enabled', disabled_reason = NULL, updated_at = :now
WHERE id = :endpoint AND state <> 'enabled' AND deleted_at IS NULL;

-- name: pause
UPDATE endpoints SET state = 'paused', updated_at = :now
WHERE id = :endpoint AND state = 'enabled' AND deleted_at IS NULL;

-- While it was paused it has not failed. Whether its receiver is well again, the next attempt shows.
-- name: resume
UPDATE endpoints SET state = 'enabled', updated_at = :now,
    failing_since = CASE WHEN failing_since IS NOT NULL THEN CAST(:now AS BIGINT) END
WHERE id = :endpoint AND state = 'paused' AND deleted_at IS NULL;

-- Several nodes may find the same out: the first says since when.
-- name: failing
UPDATE endpoints SET failing_since = :now WHERE id = :endpoint AND failing_since IS NULL AND deleted_at IS NULL;

-- name: broken
UPDATE endpoints SET broken_at = :now, failing_since = COALESCE(failing_since, :now)
WHERE id = :endpoint AND broken_at IS NULL AND deleted_at IS NULL;

-- name: well
UPDATE endpoints SET failing_since = NULL, broken_at = NULL WHERE id = :endpoint
RETURNING *;

-- What a receiver asked for holds for all that is sent to it. What was said before the endpoint was last changed may have
-- been said by another receiver.
-- name: rest
UPDATE endpoints SET rest_until = :until
WHERE id = :endpoint AND (rest_until IS NULL OR rest_until < :until) AND updated_at <= :said_at AND deleted_at IS NULL;

-- name: vouch
UPDATE endpoints SET failing_since = NULL, broken_at = NULL, rest_until = NULL, updated_at = :now
WHERE id = :endpoint AND (failing_since IS NOT NULL OR broken_at IS NOT NULL OR rest_until IS NOT NULL);

-- name: end_rest
UPDATE endpoints SET rest_until = NULL WHERE id = :endpoint AND rest_until IS NOT NULL;

-- name: delivered_since
SELECT id FROM deliveries WHERE endpoint_id = :endpoint AND state = 'delivered' AND finished_at > :since
ORDER BY id DESC LIMIT 1;

-- Those of jobs are as many as jobs, and nobody can do anything about one.
-- name: standing
SELECT CASE WHEN state = 'enabled' AND broken_at IS NOT NULL THEN 'broken' ELSE state END AS standing, COUNT(*) AS count
FROM endpoints WHERE job_id IS NULL AND deleted_at IS NULL
GROUP BY 1;

-- name: delete
UPDATE endpoints SET deleted_at = :now, updated_at = :now
WHERE id = :endpoint AND deleted_at IS NULL;

-- name: seen
UPDATE endpoints SET seen_at = :now WHERE id = :endpoint AND deleted_at IS NULL;

-- Whose connection has been away for too long; one that never came counts from its making.
-- name: unseen
SELECT id, project_id FROM endpoints
WHERE kind = 'stream' AND deleted_at IS NULL AND COALESCE(seen_at, created_at) < :before ORDER BY id LIMIT :limit;

-- name: delete_unseen
UPDATE endpoints SET deleted_at = :now, updated_at = :now
WHERE id = :endpoint AND kind = 'stream' AND deleted_at IS NULL AND COALESCE(seen_at, created_at) < :before;

-- name: forget
DELETE FROM endpoints
WHERE id IN (
    SELECT id FROM endpoints
    WHERE deleted_at IS NOT NULL AND deleted_at <= :before
      AND NOT EXISTS (SELECT 1 FROM deliveries WHERE endpoint_id = endpoints.id)
      AND NOT EXISTS (SELECT 1 FROM replays WHERE endpoint_id = endpoints.id)
    ORDER BY deleted_at LIMIT :limit
);
