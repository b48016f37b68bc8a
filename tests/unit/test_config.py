"""Settings: refused by name where they can't be meant so, and never shown."""

import json
import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from handlers.vendors.contract import Window
from handlers.vendors.vanceai import PACE
from service.config import PREFIX, SECTIONS, InvalidSettings, Settings, load, section
from service.vendor_settings import Unconfirmed, VendorSettings

SHOWN_NEVER = "hunter2"
A_KEY, B_KEY = "a" * 32, "b" * 32


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine's own environment or folder."""
    for name in [name for name in os.environ if name.startswith("WIREPHOTO_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


class Given:
    """Settings as an operator gives them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def env(self, **values: str) -> None:
        for name, value in values.items():
            self._monkeypatch.setenv(f"WIREPHOTO_{name}", value)

    def file(self, text: str, name: str = "wirephoto.toml") -> Path:
        path = Path(name)
        path.write_text(text, encoding="utf-8")
        return path


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    return Given(monkeypatch)


def refused(config: Path | None = None) -> str:
    with pytest.raises(InvalidSettings) as caught:
        load(config)
    text = str(caught.value)
    assert SHOWN_NEVER not in text
    assert caught.value.__cause__ is None
    return text


def test_without_any_setting_the_documented_ones_hold() -> None:
    settings = load()
    assert (settings.host, settings.port, settings.public_url) == ("127.0.0.1", 8080, None)
    assert settings.data_dir == Path("wirephoto-data")
    assert (settings.allow_networks, settings.networks, settings.source_networks) == ([], (), ())
    assert settings.schedule_ms is None
    assert settings.vanceai.base_url == "https://api-service.vanceai.com/web_api/v1"
    assert settings.vanceai.unconfirmed is Unconfirmed.RESUBMIT
    assert settings.vanceai.paced(PACE) == PACE


def test_an_unknown_name_in_the_environment_is_refused_by_name(given: Given) -> None:
    given.env(PORTT=SHOWN_NEVER, VANCEAI__API_TOKN=SHOWN_NEVER, PICWISH__WATCHDOG_SECONDS="3")
    assert refused().splitlines() == [
        "WIREPHOTO_PICWISH__WATCHDOG_SECONDS: unknown setting",
        "WIREPHOTO_PORTT: unknown setting",
        "WIREPHOTO_VANCEAI__API_TOKN: unknown setting",
    ]


def test_the_clients_own_names_are_known(given: Given) -> None:
    given.env(URL="http://127.0.0.1:8080", KEY="wp_x")
    assert load().port == 8080


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f'portt = "{SHOWN_NEVER}"', "WIREPHOTO_PORTT"),
        (f'[vanceai]\napi_tokn = "{SHOWN_NEVER}"', "WIREPHOTO_VANCEAI__API_TOKN"),
        ("[[vanceai.limits]]\nrequests = 1\nseconds = 1\nsecs = 2", "WIREPHOTO_VANCEAI__LIMITS__0__SECS"),
        (f'[vendor]\nx = "{SHOWN_NEVER}"', "WIREPHOTO_VENDOR"),
    ],
)
def test_an_unknown_name_in_the_file_is_refused_by_name(given: Given, text: str, name: str) -> None:
    given.file(text)
    (line,) = refused().splitlines()
    assert line.startswith(f"{name}: ")


def test_unknown_names_and_bad_values_of_both_places_are_named_at_once(given: Given) -> None:
    given.file(f'portt = 1\nhost = 3\n[picwish]\nkey = "{SHOWN_NEVER}"\n[perfectcorp]\nkeepalive_seconds = 0\n')
    given.env(PORT=SHOWN_NEVER, NO_SUCH="1", AILABTOOLS__API_KEY=" ", portt="1")
    names = [line.partition(":")[0] for line in refused().splitlines()]
    assert sorted(names) == [
        f"WIREPHOTO_{name}"
        for name in (
            "AILABTOOLS__API_KEY",
            "HOST",
            "NO_SUCH",
            "PERFECTCORP__KEEPALIVE_SECONDS",
            "PICWISH__KEY",
            "PORT",
            "PORTT",
            "portt",
        )
    ]


def test_half_of_a_vendors_credentials_is_refused_with_the_name_of_the_other(given: Given) -> None:
    given.env(PERFECTCORP__CLIENT_ID=SHOWN_NEVER)
    assert refused().startswith("WIREPHOTO_PERFECTCORP: CLIENT_SECRET must be given too")
    given.env(PERFECTCORP__CLIENT_SECRET=SHOWN_NEVER)
    assert load().perfectcorp.secrets() == {"client_id": SHOWN_NEVER, "client_secret": SHOWN_NEVER}


def test_every_vendor_has_the_common_settings_and_its_documented_place() -> None:
    settings = load()
    assert {name: section(settings, name).base_url for name in SECTIONS} == {
        "vanceai": "https://api-service.vanceai.com/web_api/v1",
        "perfectcorp": "https://yce-api-01.perfectcorp.com/s2s/v1.0",
        "ailabtools": "https://www.ailabapi.com",
        "picwish": "https://techhk.aoscdn.com",
    }
    assert settings.perfectcorp.keepalive_seconds == 10
    assert not any(section(settings, name).secrets() for name in SECTIONS)
    for part in SECTIONS.values():
        assert set(VendorSettings.model_fields) < set(part.model_fields)
        assert all(part.model_fields[name].annotation == SecretStr | None for name in part.CREDENTIALS)


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        (None, Path("wirephoto-data/assets")),
        ("file:///srv/pictures%20of%20ours", Path("/srv/pictures of ours")),
        ("s3://bucket", None),
        ("s3://my.bucket-1/some/prefix/", None),
    ],
)
def test_pictures_lie_in_a_folder_or_in_a_bucket(given: Given, url: str | None, folder: Path | None) -> None:
    if url is not None:
        given.env(ASSETS_URL=url)
    assert load().assets_folder == folder


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/srv/pictures",
        "file://host/pictures",
        "file:pictures",
        "s3://",
        "s3:///prefix",
        f"s3://key:{SHOWN_NEVER}@bucket/prefix",
        f"s3://bucket/prefix?secret={SHOWN_NEVER}",
        f"https://{SHOWN_NEVER}/bucket",
    ],
)
def test_a_place_for_pictures_that_is_none_is_refused_by_name(given: Given, url: str) -> None:
    given.env(ASSETS_URL=url)
    assert refused().startswith("WIREPHOTO_ASSETS_URL: ")


def test_a_file_that_is_none_or_cannot_be_read_is_refused_by_name() -> None:
    Path("wirephoto.toml").mkdir()
    assert "wirephoto.toml" in refused()
    # Linux has a file that nobody can read from its beginning.
    assert "/proc/self/mem can't be read" in refused(Path("/proc/self/mem"))


def test_every_bad_value_is_named_at_once_and_none_is_shown(given: Given) -> None:
    given.env(
        PORT=SHOWN_NEVER,
        ALLOW_NETWORKS=f"10.0.0.0/8,{SHOWN_NEVER}",
        PUBLIC_URL=f"ftp://{SHOWN_NEVER}",
        VANCEAI__BASE_URL=SHOWN_NEVER,
        VANCEAI__POLL_SECONDS="0",
        PICWISH__UNCONFIRMED=SHOWN_NEVER,
        LOG_FORMAT=SHOWN_NEVER,
        RETRY_SCHEDULE="5,-1",
    )
    names = {line.partition(":")[0] for line in refused().splitlines()}
    assert names == {
        "WIREPHOTO_PORT",
        "WIREPHOTO_ALLOW_NETWORKS",
        "WIREPHOTO_PUBLIC_URL",
        "WIREPHOTO_VANCEAI__BASE_URL",
        "WIREPHOTO_VANCEAI__POLL_SECONDS",
        "WIREPHOTO_PICWISH__UNCONFIRMED",
        "WIREPHOTO_LOG_FORMAT",
        "WIREPHOTO_RETRY_SCHEDULE__1",
    }


@pytest.mark.parametrize("value", [SHOWN_NEVER, f'[{{"requests":"{SHOWN_NEVER}"}}]', f'[{{"{SHOWN_NEVER}', "{}"])
def test_limits_that_are_none_are_refused_by_name(given: Given, value: str) -> None:
    given.env(VANCEAI__LIMITS=value)
    assert "WIREPHOTO_VANCEAI__LIMITS" in refused()


def test_a_list_that_is_no_json_is_refused_by_name(given: Given) -> None:
    given.env(ALLOW_NETWORKS=f'["{SHOWN_NEVER}')
    assert "WIREPHOTO_ALLOW_NETWORKS" in refused()


def test_a_file_that_is_no_toml_is_refused_by_name(given: Given) -> None:
    file = given.file(f'secret_key = "{SHOWN_NEVER}')
    assert file.name in refused()


def test_a_vendor_that_is_no_json_is_refused_without_being_shown(given: Given) -> None:
    given.env(VANCEAI=SHOWN_NEVER)
    assert "JSON" in refused()


def test_a_file_of_other_bytes_is_refused_by_name() -> None:
    Path("bytes.toml").write_bytes(b'port = "\xff\xfe"')
    assert "bytes.toml" in refused(Path("bytes.toml"))


def test_a_file_that_was_named_must_be_there() -> None:
    assert "nowhere.toml" in refused(Path("nowhere.toml"))


def test_the_environment_wins_over_the_file_name_by_name(given: Given) -> None:
    given.file('port = 1\nhost = "0.0.0.0"\n[vanceai]\napi_token = "file"\npoll_seconds = 7\n')
    given.env(PORT="2", VANCEAI__API_TOKEN="env")
    settings = load()
    assert (settings.port, settings.host) == (2, "0.0.0.0")
    assert settings.vanceai.api_token is not None
    assert settings.vanceai.api_token.get_secret_value() == "env"
    assert settings.vanceai.poll_seconds == 7


def test_a_named_file_is_read_in_place_of_the_default_one(given: Given) -> None:
    given.file("port = 1\n")
    assert load(given.file("port = 2\n", "other.toml")).port == 2


@pytest.mark.parametrize("value", ["10.0.0.0/8, 192.168.0.0/16", '["10.0.0.0/8", "192.168.0.0/16"]'])
def test_a_list_is_written_with_commas_or_as_json(given: Given, value: str) -> None:
    given.env(
        ALLOW_NETWORKS=value, ALLOW_SOURCE_NETWORKS=value, SECRET_KEYS_OLD=f"{A_KEY},{B_KEY}", RETRY_SCHEDULE="1,2.5"
    )
    settings = load()
    assert [str(network) for network in settings.networks] == ["10.0.0.0/8", "192.168.0.0/16"]
    assert settings.source_networks == settings.networks
    assert [key.get_secret_value() for key in settings.secret_keys_old] == [A_KEY, B_KEY]
    assert settings.schedule_ms == (1000, 2500)


@pytest.mark.parametrize("name", ["ALLOW_NETWORKS", "SECRET_KEYS_OLD", "ALLOW_SOURCE_NETWORKS"])
def test_an_empty_list_is_an_empty_list(given: Given, name: str) -> None:
    given.env(**{name: ""})
    assert getattr(load(), name.lower()) == []


def test_limits_are_json_in_the_environment_and_tables_in_the_file(given: Given) -> None:
    limits = [{"scope": "ip", "requests": 100, "seconds": 300}, {"requests": 2, "seconds": 0.5}]
    given.env(VANCEAI__LIMITS=json.dumps(limits))
    given.file("[[picwish.limits]]\nrequests = 3\nseconds = 1\n")
    settings = load()
    assert settings.vanceai.paced(PACE).windows == (Window("ip", 100, 300), Window("account", 2, 0.5))
    assert settings.picwish.paced(PACE).windows == (Window("account", 3, 1),)


@pytest.mark.parametrize(
    ("public_url", "networks", "reply"),
    [
        (None, [], None),
        ("https://wirephoto.example/", [], "https://wirephoto.example"),
        ("https://wirephoto.example/at/a/path/", [], "https://wirephoto.example/at/a/path"),
        ("http://wirephoto.example", ["0.0.0.0/0"], None),  # a name may lead anywhere
        ("http://127.0.0.1:8080", [], None),
        ("http://127.0.0.1:8080", ["127.0.0.0/8"], "http://127.0.0.1:8080"),
        ("http://localhost:8080", ["127.0.0.0/8"], "http://localhost:8080"),
        ("http://localhost:8080", ["10.0.0.0/8"], None),
        ("http://10.1.2.3", ["10.0.0.0/8"], "http://10.1.2.3"),
        ("http://[::1]:8080", ["::1/128"], "http://[::1]:8080"),
        ("http://93.184.216.34", [], None),  # plain http over the open network would show the token
    ],
)
def test_vendors_call_back_by_https_and_plainly_only_within_an_allowed_network(
    public_url: str | None, networks: list[str], reply: str | None
) -> None:
    settings = Settings(public_url=public_url, allow_networks=networks)
    assert settings.reply_base == reply
    assert settings.link_base == (public_url or "http://127.0.0.1:8080").rstrip("/")


def test_no_secret_shows_itself_in_the_settings(given: Given) -> None:
    given.env(
        SECRET_KEY=SHOWN_NEVER * 5,
        SECRET_KEYS_OLD=f"{SHOWN_NEVER * 5}a,{SHOWN_NEVER * 5}b",
        API_KEY=f"wp_{SHOWN_NEVER * 5}",
        VANCEAI__API_TOKEN=SHOWN_NEVER,
        PERFECTCORP__CLIENT_ID=SHOWN_NEVER,
        PERFECTCORP__CLIENT_SECRET=SHOWN_NEVER,
        AILABTOOLS__API_KEY=SHOWN_NEVER,
        PICWISH__API_KEY=SHOWN_NEVER,
        DATABASE_URL=f"postgresql://wirephoto:{SHOWN_NEVER}@127.0.0.1/wirephoto",
        METRICS_TOKEN=SHOWN_NEVER,
    )
    settings = load()
    assert SHOWN_NEVER not in repr(settings) + str(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    "key", ["", "hunter2", f"wp_{'a' * 19}", f"sk_{'a' * 30}", f"wp_{'a' * 30} b", f"wp_{'é' * 30}"]
)
def test_an_api_key_that_could_never_be_sent_is_refused_by_name(given: Given, key: str) -> None:
    given.env(API_KEY=key)
    told = refused()
    assert "WIREPHOTO_API_KEY" in told
    assert not key or key not in told


def test_a_secret_key_that_is_too_short_is_refused_by_name(given: Given) -> None:
    given.env(SECRET_KEY=SHOWN_NEVER, SECRET_KEYS_OLD=f"{A_KEY},{SHOWN_NEVER}")
    told = refused()
    assert "WIREPHOTO_SECRET_KEY:" in told
    assert "WIREPHOTO_SECRET_KEYS_OLD" in told
    given.env(SECRET_KEY=A_KEY, SECRET_KEYS_OLD=B_KEY)
    load()


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://[::1]:8080"),
        ("::1", "http://[::1]:8080"),
    ],
)
def test_links_without_a_public_url_are_ones_that_this_machine_can_follow(host: str, local: str) -> None:
    assert Settings(host=host).link_base == local


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RETRY_SCHEDULE", "inf"),
        ("ASSET_RETENTION_DAYS", "inf"),
        ("EVENT_RETENTION_DAYS", "1e9"),
        ("METRICS_TOKEN", ""),
        ("PUBLIC_URL", "https://user:hush@photos.example.com"),
        ("PUBLIC_URL", "https://photos.example.com:99999"),
    ],
)
def test_what_would_fail_or_leak_later_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(InvalidSettings, match=name) as refused:
        load()
    assert "hush" not in str(refused.value)


def test_a_list_of_one_number_is_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}RETRY_SCHEDULE", "60")
    assert load().schedule_ms == (60_000,)
