-- name: head
SELECT id FROM deliveries WHERE endpoint_id = :endpoint AND state = 'pending' AND head IS NOT NULL;

-- name: promote
UPDATE deliveries SET head = 1, node = CAST(:node AS BIGINT), due_at = CAST(:due_at AS BIGINT)
WHERE id = (
    SELECT id FROM deliveries
    WHERE endpoint_id = :endpoint AND state = 'pending' AND due_at IS NULL AND node IS NULL
    ORDER BY endpoint_id, (replay IS NOT NULL), event_id LIMIT 1
) AND NOT EXISTS (
    SELECT 1 FROM deliveries WHERE endpoint_id = :endpoint AND state = 'pending' AND head IS NOT NULL
)
RETURNING id, endpoint_id, event_id, attempts, round_from, replay;

-- The first keeps its hands or its time; what others have in hand is taken from them.
-- name: form
UPDATE deliveries SET head = CASE WHEN id = first THEN 1 END, node = CASE WHEN id = first THEN node END,
    due_at = CASE WHEN id = first THEN due_at END, retry_at = CASE WHEN id = first THEN retry_at END
FROM (
    SELECT id AS first FROM deliveries WHERE endpoint_id = :endpoint AND state = 'pending'
    ORDER BY (replay IS NOT NULL), event_id LIMIT 1
) AS foremost
WHERE endpoint_id = :endpoint AND state = 'pending';

-- name: dismiss
UPDATE deliveries SET head = NULL WHERE endpoint_id = :endpoint AND state = 'pending' AND head IS NOT NULL;

-- name: scatter
UPDATE deliveries SET due_at = :due_at
WHERE endpoint_id = :endpoint AND state = 'pending' AND due_at IS NULL AND node IS NULL;

-- name: next_line
SELECT MIN(endpoint_id) AS endpoint_id FROM deliveries
WHERE endpoint_id > :after AND state = 'pending' AND due_at IS NULL AND node IS NULL;
