"""Signed asset links: whoever holds one may read that one asset until it expires."""

import hashlib

from itsdangerous import BadSignature, Signer

_SALT = "wirephoto asset link"


class AssetLinks:
    """Makes and checks `/v1/assets/{id}/content?exp=…&sig=…`; `exp` in seconds since 1970."""

    def __init__(self, base_url: str, key: bytes, old: tuple[bytes, ...] = ()) -> None:
        self.base_url = base_url.rstrip("/")
        # itsdangerous signs with the last key and accepts all of them.
        self._signer = Signer([*old, key], salt=_SALT, digest_method=hashlib.sha256)

    def url(self, asset_id: str, expires_at: int) -> str:
        """`expires_at` in milliseconds: a link lives as long as its asset."""
        exp = expires_at // 1000
        return f"{self.base_url}/v1/assets/{asset_id}/content?exp={exp}&sig={self._signature(asset_id, exp)}"

    def _signature(self, asset_id: str, exp: int) -> str:
        return self._signer.get_signature(f"{asset_id}.{exp}").decode()

    def holds(self, asset_id: str, exp: str, sig: str, now: int) -> bool:
        """Whether a link is ours and still alive at `now` (milliseconds)."""
        try:
            self._signer.unsign(f"{asset_id}.{int(exp)}.{sig}")
        except (BadSignature, ValueError):
            return False
        return int(exp) * 1000 > now
