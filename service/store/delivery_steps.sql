-- Whether a delivery is still to be tried by this node.
-- name: in_hand
SELECT id FROM deliveries WHERE id = :delivery AND node = :node AND state IN ('pending', 'held');

-- name: of_delivery
SELECT step, value FROM delivery_steps WHERE delivery_id = :delivery;

-- Whether a place shows what a later event of the same endpoint has for it, and nobody has wanted this delivery since.
-- name: overtaken
SELECT deliveries.id FROM deliveries
JOIN events ON events.id = deliveries.event_id
JOIN shown_at_shops ON shown_at_shops.endpoint_id = deliveries.endpoint_id AND shown_at_shops.place = :place
JOIN events AS later ON later.id = shown_at_shops.event_id
WHERE deliveries.id = :delivery AND later.sequence > events.sequence
  AND (deliveries.chosen_at IS NULL OR deliveries.chosen_at < later.created_at);

-- On PostgreSQL the delivery's row stays as it is until this is committed.
-- name: arrived
INSERT INTO shown_at_shops (endpoint_id, place, event_id)
SELECT endpoint_id, CAST(:place AS TEXT), event_id FROM deliveries
WHERE id = :delivery AND node = :node AND state IN ('pending', 'held') /*postgres FOR NO KEY UPDATE */
ON CONFLICT (endpoint_id, place) DO UPDATE SET event_id = CASE
    WHEN (SELECT sequence FROM events WHERE id = excluded.event_id)
        > (SELECT sequence FROM events WHERE id = shown_at_shops.event_id)
    THEN excluded.event_id ELSE shown_at_shops.event_id END;

-- What another node has taken over is its to write down. On PostgreSQL its row stays as it is until this is committed.
-- name: save
INSERT INTO delivery_steps (delivery_id, step, value)
SELECT id, CAST(:step AS TEXT), CAST(:value AS TEXT) FROM deliveries
WHERE id = :delivery AND node = :node AND state IN ('pending', 'held') /*postgres FOR NO KEY UPDATE */
ON CONFLICT (delivery_id, step) DO UPDATE SET value = excluded.value;
