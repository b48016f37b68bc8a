-- name: add
INSERT INTO nodes (public_id, started_at, beat_at, key_fingerprint)
VALUES (:public_id, :now, :now, :key_fingerprint)
RETURNING id;

-- name: newest
SELECT MAX(id) AS id FROM nodes;

-- name: seals_otherwise
SELECT 1 AS found FROM nodes
WHERE (ended_at IS NULL OR id > :after) AND (key_fingerprint IS NULL OR key_fingerprint <> :key_fingerprint)
LIMIT 1;

-- name: beat
UPDATE nodes SET beat_at = :now WHERE id = :node AND ended_at IS NULL;

-- name: end
UPDATE nodes SET ended_at = :now WHERE id = :node AND ended_at IS NULL;

-- name: dead
SELECT id FROM nodes WHERE ended_at IS NULL AND id <> :node AND beat_at < :before;

-- Every node that has not ended, and whoever holds something all the same: it may have ended before it took it.
-- name: others
SELECT id FROM nodes WHERE ended_at IS NULL AND id <> :node
UNION SELECT node FROM jobs WHERE node IS NOT NULL AND node <> :node
UNION SELECT node FROM submissions WHERE node IS NOT NULL AND node <> :node
UNION SELECT node FROM deliveries WHERE node IS NOT NULL AND node <> :node;

-- name: release_jobs
UPDATE jobs SET node = NULL, due_at = :now WHERE node = :dead;

-- A submission whose paid call was cut off waits for its callback until the watchdog; a known task is asked at once.
-- name: release_submissions
UPDATE submissions
SET node = NULL, due_at = CASE WHEN vendor_task_id IS NULL AND watch_at > :now THEN watch_at ELSE :now END
WHERE node = :dead;

-- name: release_deliveries
UPDATE deliveries
SET node = NULL, due_at = CASE WHEN state = 'pending' THEN CAST(:now AS BIGINT) END
WHERE node = :dead;

-- name: last_beat
SELECT MAX(beat_at) AS beat_at FROM nodes WHERE ended_at IS NULL;

-- name: forget
DELETE FROM nodes WHERE id IN (SELECT id FROM nodes WHERE ended_at <= :before AND id <> :node ORDER BY id LIMIT :limit);
