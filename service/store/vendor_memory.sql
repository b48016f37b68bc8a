-- name: recall
SELECT sealed FROM vendor_memory WHERE vendor = :vendor AND account = :account AND name = :name;

-- name: keep
INSERT INTO vendor_memory (vendor, account, name, sealed) VALUES (:vendor, :account, :name, :sealed)
ON CONFLICT (vendor, account, name) DO UPDATE SET sealed = excluded.sealed;

-- One statement: two nodes never get the same number. Nor does a store that was restored from a backup, whose counter
-- went back: the clock has gone on.
-- name: next_number
INSERT INTO vendor_memory (vendor, account, name, number) VALUES (:vendor, :account, :name, CAST(:least AS BIGINT))
ON CONFLICT (vendor, account, name) DO UPDATE SET
    number = CASE WHEN vendor_memory.number >= excluded.number THEN vendor_memory.number + 1 ELSE excluded.number END
RETURNING number;
