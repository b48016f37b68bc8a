-- What is wrong with an account at a vendor. What stands here was told, by an event; what pauses the account has the time
-- of its next probe. account is a digest of the credentials: others are another account, without this one's troubles.
CREATE TABLE vendor_troubles (
    vendor TEXT NOT NULL,
    account TEXT NOT NULL,
    kind TEXT NOT NULL,
    since BIGINT NOT NULL,
    call TEXT NOT NULL,
    error_class TEXT NOT NULL,
    code TEXT NOT NULL,
    probe_at BIGINT,
    probes BIGINT NOT NULL DEFAULT 0,
    credits TEXT,
    PRIMARY KEY (vendor, account, kind)
);
