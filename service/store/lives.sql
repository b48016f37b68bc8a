-- name: of_vendor
SELECT operation, weights, seen FROM lives WHERE vendor = :vendor;

-- name: keep
INSERT INTO lives (vendor, operation, weights, seen, updated_at)
VALUES (:vendor, :operation, :weights, :seen, :now)
ON CONFLICT (vendor, operation) DO UPDATE SET
    weights = excluded.weights, seen = excluded.seen, updated_at = excluded.updated_at;
