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
