-- Whether a delivery is still to be tried by this node.
-- name: in_hand
SELECT id FROM deliveries WHERE id = :delivery AND node = :node AND state IN ('pending', 'held');

-- name: of_delivery
SELECT step, value FROM delivery_steps WHERE delivery_id = :delivery;

-- What another node has taken over is its to write down. On PostgreSQL its row stays as it is until this is committed.
-- name: save
INSERT INTO delivery_steps (delivery_id, step, value)
SELECT id, CAST(:step AS TEXT), CAST(:value AS TEXT) FROM deliveries
WHERE id = :delivery AND node = :node AND state IN ('pending', 'held') /*postgres FOR NO KEY UPDATE */
ON CONFLICT (delivery_id, step) DO UPDATE SET value = excluded.value;
