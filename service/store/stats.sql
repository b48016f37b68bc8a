-- What is looked at, however much there is: an endpoint's newest deliveries, and those that were opened again lately,
-- which may be old. Each question ends at the same bound and walks the same indexes.

-- name: deliveries
SELECT state, COUNT(*) AS count, MIN(created_at) AS oldest FROM (
    SELECT state, created_at FROM deliveries WHERE endpoint_id = :endpoint ORDER BY id DESC LIMIT :most
) AS newest
WHERE created_at >= :since GROUP BY state;

-- name: attempts
SELECT attempts.outcome, COUNT(*) AS count
FROM (
    SELECT id FROM (SELECT id FROM deliveries WHERE endpoint_id = :endpoint ORDER BY id DESC LIMIT :most) AS newest
    UNION
    SELECT id FROM (
        SELECT id FROM deliveries WHERE endpoint_id = :endpoint AND reopened_at IS NOT NULL
        ORDER BY reopened_at DESC LIMIT :most
    ) AS reopened
) AS looked
JOIN attempts ON attempts.delivery_id = looked.id
WHERE attempts.started_at >= :since
GROUP BY attempts.outcome;

-- The least time that so many percent of the answers kept to.
-- name: times
SELECT MIN(CASE WHEN place >= 0.50 * total THEN ms END) AS p50, MIN(CASE WHEN place >= 0.95 * total THEN ms END) AS p95,
    MIN(CASE WHEN place >= 0.99 * total THEN ms END) AS p99
FROM (
    SELECT attempts.ms, ROW_NUMBER() OVER (ORDER BY attempts.ms) AS place, COUNT(*) OVER () AS total
    FROM (
        SELECT id FROM (SELECT id FROM deliveries WHERE endpoint_id = :endpoint ORDER BY id DESC LIMIT :most) AS newest
        UNION
        SELECT id FROM (
            SELECT id FROM deliveries WHERE endpoint_id = :endpoint AND reopened_at IS NOT NULL
            ORDER BY reopened_at DESC LIMIT :most
        ) AS reopened
    ) AS looked
    JOIN attempts ON attempts.delivery_id = looked.id
    WHERE attempts.started_at >= :since AND attempts.status IS NOT NULL
) AS answered;

-- name: last_attempt
SELECT attempts.started_at, attempts.status, attempts.error
FROM (
    SELECT id FROM (SELECT id FROM deliveries WHERE endpoint_id = :endpoint ORDER BY id DESC LIMIT :most) AS newest
    UNION
    SELECT id FROM (
        SELECT id FROM deliveries WHERE endpoint_id = :endpoint AND reopened_at IS NOT NULL
        ORDER BY reopened_at DESC LIMIT :most
    ) AS reopened
) AS looked
JOIN attempts ON attempts.delivery_id = looked.id
WHERE CASE WHEN attempts.outcome IN ('delivered', 'superseded', 'last') THEN 1 ELSE 0 END = CAST(:delivered AS BIGINT)
ORDER BY attempts.started_at DESC LIMIT 1;

-- name: open
SELECT state, COUNT(*) AS count FROM deliveries
WHERE endpoint_id = :endpoint AND finished_at IS NULL GROUP BY state;

-- name: oldest_pending
SELECT created_at FROM deliveries
WHERE endpoint_id = :endpoint AND finished_at IS NULL AND state = 'pending' ORDER BY id LIMIT 1;
