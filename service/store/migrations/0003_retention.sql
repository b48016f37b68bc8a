-- What retention asks for. Each question has its index: what is too old is found without a look at what is not.

-- Since when a delivery is held. A release that does not know this column leaves it empty: then since it was made.
ALTER TABLE deliveries ADD COLUMN held_at BIGINT;
CREATE INDEX deliveries_kept ON deliveries (COALESCE(held_at, created_at)) WHERE state = 'held';

-- A row that others refer to can only be deleted cheaply where those others are found by it.
CREATE INDEX job_inputs_by_asset ON job_inputs (asset_id);
CREATE INDEX results_by_asset ON results (asset_id);
CREATE INDEX idempotency_keys_by_job ON idempotency_keys (job_id);

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
CREATE INDEX assets_by_end ON assets (expires_at, id);
CREATE INDEX endpoints_deleted ON endpoints (deleted_at) WHERE deleted_at IS NOT NULL;
