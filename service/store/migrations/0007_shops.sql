-- Endpoints that are shops.

-- A shop's config: what may be shown, its credentials by their names, and encrypted. NULL: the kind has none.
ALTER TABLE endpoints ADD COLUMN config TEXT;

-- What is already done of a delivery, so that a retry resumes instead of doing it twice.
CREATE TABLE delivery_steps (
    delivery_id BIGINT NOT NULL REFERENCES deliveries (id) ON DELETE CASCADE,
    step TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (delivery_id, step)
);

-- The latest event whose pictures a product or a variant of a shop was seen to show, for each endpoint: an older one that
-- comes late leaves it its place. It is known as long as the log has it, and so has older ones that may come.
CREATE TABLE shown_at_shops (
    endpoint_id BIGINT NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    place TEXT NOT NULL,
    event_id BIGINT NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    PRIMARY KEY (endpoint_id, place)
);
CREATE INDEX shown_at_shops_by_event ON shown_at_shops (event_id);

-- When somebody last wanted this very delivery: it may take the place of what was later then.
ALTER TABLE deliveries ADD COLUMN chosen_at BIGINT;
