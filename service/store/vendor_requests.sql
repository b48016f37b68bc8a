-- name: start
INSERT INTO vendor_requests (vendor, started_at) VALUES (:vendor, :now) RETURNING id;

-- name: finish
UPDATE vendor_requests SET finished_at = :now WHERE id = :request;

-- name: since
SELECT id, started_at, finished_at FROM vendor_requests
WHERE vendor = :vendor AND (finished_at IS NULL OR finished_at >= :since)
ORDER BY id;

-- name: forget
DELETE FROM vendor_requests WHERE vendor = :vendor AND started_at < :before;
