-- name: of_account
SELECT * FROM vendor_troubles WHERE vendor = :vendor AND account = :account;

-- name: begin
INSERT INTO vendor_troubles (vendor, account, kind, since, call, error_class, code, probe_at, probes, credits)
VALUES (:vendor, :account, :kind, :since, :call, :error_class, :code, :probe_at, :probes, :credits)
ON CONFLICT (vendor, account, kind) DO NOTHING;

-- name: end
DELETE FROM vendor_troubles WHERE vendor = :vendor AND account = :account AND kind = :kind;

-- name: of_others
SELECT COUNT(*) AS count FROM vendor_troubles WHERE vendor = :vendor AND account <> :account;

-- name: end_of_others
DELETE FROM vendor_troubles WHERE vendor = :vendor AND account <> :account;

-- name: hasten
UPDATE vendor_troubles SET probe_at = :now WHERE vendor = :vendor AND account = :account AND probe_at > :now;

-- A compare-and-set: of several nodes one makes the probe that is due.
-- name: probing
UPDATE vendor_troubles SET probe_at = :next_at, probes = :probes
WHERE vendor = :vendor AND account = :account AND kind = :kind AND probe_at = :probe_at;
