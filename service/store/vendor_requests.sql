-- name: start
INSERT INTO vendor_requests (vendor, host, account, started_at) VALUES (:vendor, :host, :account, :now) RETURNING id;

-- name: finish
UPDATE vendor_requests SET finished_at = :now WHERE id = :request;

-- Those of the vendor's accounts, wherever they were sent, and those of all others at this host.
-- name: since
SELECT id, account, host, started_at, finished_at FROM vendor_requests
WHERE (vendor = :vendor OR host = :host) AND (finished_at IS NULL OR finished_at >= :since)
ORDER BY id;

-- name: forget
DELETE FROM vendor_requests WHERE vendor = :vendor AND started_at < :before;

-- The oldest rows are looked at, and no more: with every request a vendor in use forgets its own.
-- name: forget_all
DELETE FROM vendor_requests
WHERE id IN (SELECT id FROM vendor_requests ORDER BY id LIMIT :limit) AND started_at < :before;
