"""The environment: defaults, limits, whole reports of what is wrong, and no secret anywhere in them."""

from __future__ import annotations

import os
import re
from ipaddress import ip_network
from pathlib import Path

import psycopg
import pytest
from botocore.utils import is_valid_uri
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from jobqueue.errors import ConfigurationError
from jobqueue.settings import DatabaseUrl, Secret, Settings, load_settings

EXAMPLE_FILE = Path(__file__).parent.parent / "worker.env.example"

DATABASE = {"DATABASE_URL": "postgresql://worker:pa%2Fss%20word@db.example.com:5432/app"}
RAID = {"RAID_PUB_ENDPOINT": "https://raid.example.com/files", "RAID_PUBLISHER_SECRET": "raid-canary"}
STORE = {
    "B2_KEY_ID": "key-id-canary",
    "B2_APP_KEY": "app-key-canary",
    "B2_BUCKET": "app-media",
    "B2_REGION": "us-west-004",
    "B2_ENDPOINT": "s3.us-west-004.backblazeb2.com",
    "CDN_BASE_URL": "https://cdn.example.com/",
}
BACKEND = {"BACKEND_URL": "https://backend.example.com", "WORKER_API_KEY": "worker-canary"}
INBOUND = {
    "CRON_SECRET": "cron-canary-new, cron-canary-old",
    "CRON_JOB_API_KEY": "cron-job-canary",
    "WORKER_WEBHOOK_SECRET": "webhook-canary",
}
EVERYTHING = DATABASE | RAID | STORE | BACKEND | INBOUND


def problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ)
    return caught.value.problems


def report(environ: dict[str, str]) -> str:
    """What loading says, or nothing when it succeeds and libpq takes the result."""
    try:
        conninfo_to_dict(load_settings(environ).conninfo)
    except ConfigurationError as error:
        return str(error)
    return ""


def problem(**environ: str) -> str:
    (line,) = problems(DATABASE | environ)
    return line


def conninfo(url: str, **environ: str) -> dict[str, str]:
    return {k: str(v) for k, v in conninfo_to_dict(load_settings({"DATABASE_URL": url, **environ}).conninfo).items()}


class TestDefaults:
    def test_are_those_of_the_contract(self) -> None:
        settings = load_settings(DATABASE)
        assert settings.worker_poll_interval == 15_000
        assert settings.concurrency == 3
        assert settings.max_retries == 5
        assert settings.lease_seconds == 60
        assert settings.drain_timeout == 30
        assert settings.max_source_bytes == 100 * 1024**2
        assert settings.max_source_pixels == 120_000_000
        assert settings.memory_budget is None
        assert settings.max_media_files_per_zip == 500
        assert settings.max_zip_size_bytes == 2 * 1024**3
        assert (settings.http_host, settings.port) == ("0.0.0.0", 8080)
        assert (settings.log_level, settings.log_format) == ("info", "json")
        assert settings.retention_days == 90
        assert (settings.max_webhook_retries, settings.webhook_retry_backoff_base) == (5, 2)
        assert settings.webhook_allow_http is False
        assert settings.webhook_allowed_cidrs == ()
        assert (settings.notification_expiry_batch_size, settings.data_archival_batch_size) == (1000, 10_000)
        assert settings.scheduler_is_primary is True
        assert settings.schedules_file is None
        assert settings.cron_secret is settings.cron_job_api_key is settings.worker_webhook_secret is None

    def test_the_process_environment_is_read_when_none_is_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for variable in Settings.model_fields:
            monkeypatch.delenv(variable.upper(), raising=False)
        monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/app")
        monkeypatch.setenv("CONCURRENCY", "7")
        assert load_settings().concurrency == 7

    def test_a_given_environment_is_the_only_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CONCURRENCY", "7")
        assert load_settings(DATABASE).concurrency == 3

    def test_an_empty_variable_is_unset_and_an_unknown_one_ignored(self) -> None:
        settings = load_settings(DATABASE | {"PORT": "", "CRON_SECRET": "  ", "B2_BUCKET": "", "SHELL": "/bin/sh"})
        assert settings.port == 8080
        assert settings.cron_secret is None

    def test_names_are_upper_case(self) -> None:
        assert load_settings(DATABASE | {"port": "1"}).port == 8080


class TestValues:
    @pytest.mark.parametrize(
        ("text", "count"),
        [("1048576", 1024**2), ("100MiB", 100 * 1024**2), ("2 GiB", 2 * 1024**3), ("1.5KiB", 1536), ("10MB", 10**7)],
    )
    def test_sizes_are_plain_or_have_a_unit(self, text: str, count: int) -> None:
        assert load_settings(DATABASE | {"MAX_SOURCE_BYTES": text}).max_source_bytes == count

    @pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes", "on"])
    def test_flags_that_are_set(self, text: str) -> None:
        assert load_settings(DATABASE | {"WEBHOOK_ALLOW_HTTP": text}).webhook_allow_http is True

    @pytest.mark.parametrize("text", ["false", "0", "No", "off"])
    def test_flags_that_are_not(self, text: str) -> None:
        assert load_settings(DATABASE | {"SCHEDULER_IS_PRIMARY": text}).scheduler_is_primary is False

    def test_networks(self) -> None:
        settings = load_settings(DATABASE | {"WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8, fd00::/8,10.1.2.3"})
        assert settings.webhook_allowed_cidrs == tuple(map(ip_network, ("127.0.0.0/8", "fd00::/8", "10.1.2.3/32")))

    def test_urls_are_brought_into_one_form(self) -> None:
        settings = load_settings(EVERYTHING)
        assert settings.b2_endpoint == "https://s3.us-west-004.backblazeb2.com"
        assert settings.cdn_base_url == "https://cdn.example.com"
        loopback = load_settings(EVERYTHING | {"B2_ENDPOINT": "http://127.0.0.1:9000/", "HTTP_HOST": "[::]"})
        assert loopback.b2_endpoint == "http://127.0.0.1:9000"
        assert loopback.http_host == "::"

    def test_the_origin_keeps_its_path_to_the_letter(self) -> None:
        assert load_settings(EVERYTHING | {"RAID_PUB_ENDPOINT": "http://h/pub/"}).raid_pub_endpoint == "http://h/pub/"

    def test_words_are_case_insensitive(self) -> None:
        settings = load_settings(DATABASE | {"LOG_LEVEL": "WARNING", "LOG_FORMAT": "Text"})
        assert (settings.log_level, settings.log_format) == ("warning", "text")

    def test_files_must_be_there(self, tmp_path: Path) -> None:
        file = tmp_path / "schedules.toml"
        assert "a file that exists" in problem(SCHEDULES_FILE=str(file))
        file.touch()
        assert load_settings(DATABASE | {"SCHEDULES_FILE": str(file)}).schedules_file == file

    @pytest.mark.parametrize(
        ("variable", "text", "phrase"),
        [
            ("CONCURRENCY", "0", "a whole number from 1 to 1000"),
            ("CONCURRENCY", "1001", "a whole number from 1 to 1000"),
            ("CONCURRENCY", "2.5", "a whole number"),
            ("CONCURRENCY", "three", "a whole number"),
            ("CONCURRENCY", "9" * 5000, "a whole number"),
            ("PORT", "65536", "from 0 to 65535"),
            ("PORT", "-1", "from 0 to 65535"),
            ("PORT", '"8080"', "leave them out"),
            ("LEASE_SECONDS", "1", "from 2"),
            ("WORKER_POLL_INTERVAL", "15s", "a whole number"),
            ("WEBHOOK_RETRY_BACKOFF_BASE", "0.5", "a number from 1"),
            ("WEBHOOK_RETRY_BACKOFF_BASE", "nan", "a number from 1"),
            ("MAX_SOURCE_BYTES", "100 pounds", "a number of bytes"),
            ("MAX_SOURCE_BYTES", "0", "from 1"),
            ("MEMORY_BUDGET", "1MiB", "from 16777216"),
            ("WEBHOOK_ALLOW_HTTP", "maybe", "true or false"),
            ("WEBHOOK_ALLOWED_CIDRS", "10.0.0.0/8,10.0.0.1/8", "entry 2 must be a network"),
            ("LOG_LEVEL", "loud", "one of debug, info, warning, error"),
            ("LOG_FORMAT", "xml", "one of json, text"),
            ("HTTP_HOST", "http://0.0.0.0", "an address or a host name"),
            ("CRON_SECRET", "a,b,c", "more than two values"),
            ("CRON_SECRET", "new,", "an empty value"),
            ("CRON_SECRET", "a\nb", "printable ASCII"),
            ("CRON_SECRET", "seven77", "at least 8 characters"),
            ("CRON_SECRET", "long-enough,short", "at least 8 characters"),
        ],
    )
    def test_malformed_ones_are_refused(self, variable: str, text: str, phrase: str) -> None:
        line = problem(**{variable: text})
        assert line.startswith(f"{variable} ")
        assert phrase in line
        assert f"for example {variable}=" in line

    @pytest.mark.parametrize(
        ("variable", "text", "phrase"),
        [
            ("CDN_BASE_URL", "cdn.example.com", "http:// or https:// URL"),
            ("CDN_BASE_URL", "ftp://cdn.example.com", "http:// or https:// URL"),
            ("CDN_BASE_URL", "https://cdn.example.com:99999", "http:// or https:// URL"),
            ("CDN_BASE_URL", "https://cdn.example.com/a b", "http:// or https:// URL"),
            ("CDN_BASE_URL", "https://[::1", "http:// or https:// URL"),
            ("RAID_PUB_ENDPOINT", "https://u:canary@raid.example.com", "a user name or password"),
            ("RAID_PUB_ENDPOINT", "https://raid.example.com/?key=", "a query or a fragment"),
            ("B2_ENDPOINT", "https://s3.example.com/bucket", "without a path"),
            ("B2_ENDPOINT", "K004canaryCANARYcanary123456789", "a dot in its name, or a URL"),
            ("B2_ENDPOINT", "canary/wJalrXUtnFEMI/K7MDENG", "without a path"),
            ("B2_ENDPOINT", "https://canary_host.example.com", "a host's name of letters"),
            ("B2_ENDPOINT", "-canary.example.com", "a host's name of letters"),
            ("B2_BUCKET", "K004canaryCANARYcanary123456789", "looks like a key"),
            ("B2_BUCKET", "canaryXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEYa", "looks like a key"),
            ("B2_BUCKET", "no spaces", "a bucket's name"),
            ("B2_REGION", "us west", "a region's name"),
        ],
    )
    def test_malformed_addresses_are_refused(self, variable: str, text: str, phrase: str) -> None:
        (line,) = problems(EVERYTHING | {variable: text})
        assert line.startswith(f"{variable} ")
        assert phrase in line
        assert "canary" not in line

    @pytest.mark.parametrize(
        ("text", "url"),
        [
            ("localhost", "https://localhost"),
            ("minio:9000", "https://minio:9000"),
            ("http://minio", "http://minio"),
            ("10.0.0.7:9000", "https://10.0.0.7:9000"),
            ("http://[::1]:9000/", "http://[::1]:9000"),
            ("s3.example.com.", "https://s3.example.com."),
        ],
    )
    def test_endpoints_of_every_kind(self, text: str, url: str) -> None:
        assert load_settings(EVERYTHING | {"B2_ENDPOINT": text}).b2_endpoint == url

    @given(st.from_regex(r"\A(https?://)?[\[\]A-Za-z0-9._:%-]{1,70}\Z"))
    def test_what_boto3_would_refuse_in_an_error_that_quotes_it_is_refused_before(self, text: str) -> None:
        try:
            endpoint = load_settings(EVERYTHING | {"B2_ENDPOINT": text}).b2_endpoint
        except ConfigurationError:
            return
        assert endpoint is not None
        assert is_valid_uri(endpoint)

    @pytest.mark.parametrize("other", ["B2_APP_KEY", "B2_KEY_ID", "RAID_PUBLISHER_SECRET"])
    @pytest.mark.parametrize("variable", ["B2_ENDPOINT", "CDN_BASE_URL", "RAID_PUB_ENDPOINT"])
    def test_an_address_and_a_secret_that_were_swapped(self, variable: str, other: str) -> None:
        swapped = EVERYTHING | {other: "K004canaryCANARYcanary123456789"}
        swapped |= {variable: swapped[other], other: swapped[variable]}
        lines = problems(swapped)
        assert [line.split()[0] for line in lines] == [variable]
        assert "canary" not in lines[0].lower()

    def test_the_name_of_a_key_may_be_short(self) -> None:
        assert load_settings(EVERYTHING | {"B2_KEY_ID": "minio"}).require_media().b2_key_id.first == "minio"


class TestReport:
    def test_all_problems_come_at_once_in_the_order_of_the_contract(self) -> None:
        lines = problems({"LOG_FORMAT": "xml", "CONCURRENCY": "no", "B2_BUCKET": "app-media", "B2_REGION": "?"})
        assert [line.split()[0] for line in lines] == [
            "DATABASE_URL",
            "B2_KEY_ID",
            "B2_APP_KEY",
            "B2_REGION",
            "B2_ENDPOINT",
            "CDN_BASE_URL",
            "CONCURRENCY",
            "LOG_FORMAT",
        ]
        assert lines[0] == (
            "DATABASE_URL is not set; for example DATABASE_URL=postgresql://worker:password@db.example.com:5432/app"
        )
        assert "B2_BUCKET is and needs it" in lines[1]

    @pytest.mark.parametrize("group", [RAID, STORE, BACKEND])
    def test_a_group_is_set_as_a_whole_or_not_at_all(self, group: dict[str, str]) -> None:
        load_settings(DATABASE | group)
        for missing in group:
            partial = {variable: value for variable, value in group.items() if variable != missing}
            (line,) = problems(DATABASE | partial)
            assert line.startswith(f"{missing} is not set")

    def test_every_example_is_itself_accepted(self, tmp_path: Path) -> None:
        file = tmp_path / "schedules.toml"
        file.touch()
        examples = {name.upper(): str((info.examples or [""])[0]) for name, info in Settings.model_fields.items()}
        load_settings(examples | {"SCHEDULES_FILE": str(file)})

    def test_no_line_quotes_a_value(self) -> None:
        """Whatever is pasted into whatever variable stays out of the report."""
        canary = "c4n4ry"
        for variable in Settings.model_fields:
            for text in (canary, f"{canary},{canary},{canary}\x07", f"postgresql://u:{canary}@@h/{canary}?{canary}=1"):
                assert canary not in report(EVERYTHING | {variable.upper(): text}), variable

    @pytest.mark.slow
    @given(st.text(max_size=40))
    def test_any_text_as_a_database_url_is_accepted_or_reported(self, text: str) -> None:
        said = report({"DATABASE_URL": text})
        assert said.startswith("DATABASE_URL ") or not said


class TestMedia:
    def test_is_given_whole(self) -> None:
        media = load_settings(EVERYTHING).require_media()
        assert media.raid_pub_endpoint == "https://raid.example.com/files"
        assert media.b2_app_key.first == "app-key-canary"
        assert media.cdn_base_url == "https://cdn.example.com"

    def test_lists_everything_that_is_missing(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            load_settings(DATABASE | RAID).require_media()
        assert [line.split()[0] for line in caught.value.problems] == list(STORE)
        assert "publishing and zipping need it" in caught.value.problems[0]

    def test_the_backend_is_given_whole_or_missed(self) -> None:
        assert load_settings(EVERYTHING).require_backend().worker_api_key.first == "worker-canary"
        with pytest.raises(ConfigurationError, match="WORKER_API_KEY is not set"):
            load_settings(DATABASE).require_backend()


class TestConnection:
    def test_a_distant_host_gets_tls_and_is_watched(self) -> None:
        assert conninfo(DATABASE["DATABASE_URL"]) == {
            "host": "db.example.com",
            "port": "5432",
            "dbname": "app",
            "user": "worker",
            "password": "pa/ss word",
            "sslmode": "require",
            "connect_timeout": "10",
            "keepalives": "1",
            "keepalives_idle": "5",
            "keepalives_interval": "5",
            "keepalives_count": "3",
            "tcp_user_timeout": "15000",
        }

    def test_what_the_url_says_wins(self) -> None:
        given = conninfo("postgres://h/app?sslmode=disable&connect_timeout=3&keepalives_idle=60&tcp_user_timeout=1")
        assert given["sslmode"] == "disable"
        assert given["connect_timeout"] == "3"
        assert given["keepalives_idle"] == "60"
        assert given["tcp_user_timeout"] == "1"

    def test_libpqs_own_variables_are_respected(self) -> None:
        assert "sslmode" not in conninfo("postgresql://h/app", PGSSLMODE="verify-full")
        assert "connect_timeout" not in conninfo("postgresql://h/app", PGCONNECT_TIMEOUT="3")
        assert conninfo("dbname=app", PGHOST="db.example.com")["sslmode"] == "require"
        assert "sslmode" not in conninfo("service=app")

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql:///app",
            "dbname=app",
            "postgresql://localhost/app",
            "postgresql://127.0.0.1:5433/app",
            "postgresql://[::1]/app",
            "postgresql://%2Fvar%2Frun%2Fpostgresql/app",
            "host=/tmp dbname=app",
            "host=@abstract dbname=app",
            "host=localhost,127.0.0.2 dbname=app",
            "host=db.example.com hostaddr=127.0.0.1 dbname=app",
        ],
    )
    def test_a_local_host_needs_no_tls(self, url: str) -> None:
        assert "sslmode" not in conninfo(url)

    @pytest.mark.parametrize(
        "url", ["postgresql://10.0.0.1/app", "host=localhost,db.example.com", "postgresql://localhost.example.com/app"]
    )
    def test_any_other_does(self, url: str) -> None:
        assert conninfo(url)["sslmode"] == "require"

    def test_no_start_up_options_are_added(self) -> None:
        assert "options" not in conninfo(DATABASE["DATABASE_URL"])

    def test_a_pooler_is_one_when_the_direct_url_differs(self) -> None:
        url = DATABASE["DATABASE_URL"]
        alone = load_settings(DATABASE)
        assert not alone.pooled
        assert alone.direct_conninfo == alone.conninfo
        assert not load_settings(DATABASE | {"DATABASE_DIRECT_URL": url}).pooled
        pooled = load_settings(DATABASE | {"DATABASE_DIRECT_URL": "postgresql://worker@direct.example.com/app"})
        assert pooled.pooled
        assert "host=direct.example.com" in pooled.direct_conninfo
        assert "sslmode=require" in pooled.direct_conninfo
        assert "host=db.example.com" in pooled.conninfo

    @pytest.mark.parametrize(
        ("url", "phrase"),
        [
            ("mysql://u:canary@h/app", "must be a libpq URL"),
            ("postgresql+psycopg://u:canary@h/app", "must be a libpq URL"),
            ("nonsense", "must be a libpq URL"),
            ("postgresql://u:p@canary@h/app", "percent-encoded"),
            ("postgresql://u:can/ary@h/app", "percent-encoded"),
            ("postgresql://u:canary%@h/app", "percent-encoded"),
            ("postgresql://u:canary@h/app?pgbouncer=true", "has an option that libpq does not know"),
            ("host=h passwort=canary", "has an option that libpq does not know"),
            ("postgresql://u@h:70000/app", "a host or port"),
        ],
    )
    def test_what_libpq_would_refuse_is_refused(self, url: str, phrase: str) -> None:
        (line,) = problems({"DATABASE_URL": url})
        assert phrase in line
        assert "canary" not in line

    def test_libpq_takes_it(self) -> None:
        """The completed string is one that libpq itself gets as far as dialling with."""
        with pytest.raises(psycopg.OperationalError, match="Connection refused"):
            psycopg.connect(load_settings({"DATABASE_URL": "postgresql://u:p@127.0.0.1:1/app"}).conninfo)


class TestSecrecy:
    def test_nothing_printed_holds_a_secret(self) -> None:
        settings = load_settings(EVERYTHING)
        shown = [repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()]
        shown += [f"{settings.require_media()}", repr(settings.require_backend()), f"{settings.cron_secret!s}"]
        for text in shown:
            assert "canary" not in text
            assert "word" not in text.replace("password=", "")
        assert "host=db.example.com" in shown[0]
        assert repr(settings.cron_secret) == "**********"

    def test_secrets_are_listed_for_scrubbing(self) -> None:
        secrets = load_settings(EVERYTHING | {"PGPASSWORD": "pg-canary"}).secrets()
        assert {
            "pa/ss word",
            "pa%2Fss%20word",
            "pa%2Fss+word",
            "raid-canary",
            "key-id-canary",
            "app-key-canary",
            "worker-canary",
            "cron-canary-new",
            "cron-canary-old",
            "cron-job-canary",
            "webhook-canary",
            "pg-canary",
        } == set(secrets)

    def test_settings_cannot_be_changed(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            load_settings(DATABASE).port = 1


class TestSecret:
    def test_both_values_are_accepted_and_the_first_is_sent(self) -> None:
        secret = Secret("new, old")
        assert secret.first == "new"
        assert secret.accepted == ("new", "old")
        assert secret.matches("new")
        assert secret.matches(b"old")

    @pytest.mark.parametrize("candidate", [None, "", b"", "ne", "new,old", "newer", "n\u00e9w", "\udcff", b"\xff"])
    def test_nothing_else_matches(self, candidate: str | bytes | None) -> None:
        assert not Secret("new,old").matches(candidate)

    def test_equality_is_of_values(self) -> None:
        assert Secret("a,b") == Secret("a, b")
        assert Secret("a") != Secret("b")
        assert len({Secret("a"), Secret("a")}) == 1
        assert DatabaseUrl("postgresql://h/a") == DatabaseUrl("host=h dbname=a")
        assert len({DatabaseUrl("postgresql://h/a"), DatabaseUrl("host=h dbname=a")}) == 1


class TestCredentialsDirectory:
    def test_files_stand_in_for_unset_variables(self, tmp_path: Path) -> None:
        (tmp_path / "database_url").write_text("postgresql://worker@db.example.com/app\n")
        (tmp_path / "CRON_SECRET").write_text("from-file\n")
        (tmp_path / "port").write_text("")
        settings = load_settings({"CREDENTIALS_DIRECTORY": str(tmp_path)})
        assert "dbname=app" in settings.conninfo
        assert settings.cron_secret == Secret("from-file")
        assert settings.port == 8080
        both = load_settings({"CREDENTIALS_DIRECTORY": str(tmp_path), "CRON_SECRET": "from-env"})
        assert both.cron_secret == Secret("from-env")

    def test_a_directory_that_is_not_there_is_ignored(self, tmp_path: Path) -> None:
        load_settings(DATABASE | {"CREDENTIALS_DIRECTORY": str(tmp_path / "none")})


class TestExampleFile:
    lines = tuple(EXAMPLE_FILE.read_text().splitlines())
    pairs = tuple(tuple(line.split("=", 1)) for line in lines if re.match(r"[A-Z]", line))

    def test_lists_every_variable_once_and_no_other(self) -> None:
        assert sorted(pair[0] for pair in self.pairs) == sorted(name.upper() for name in Settings.model_fields)

    def test_its_values_are_the_defaults(self) -> None:
        settings = load_settings({pair[0]: pair[1] for pair in self.pairs})
        for name, field in Settings.model_fields.items():
            if name != "database_url":
                assert getattr(settings, name) == field.default, name

    def test_every_line_has_a_form_that_shells_systemd_and_docker_agree_on(self) -> None:
        for line in self.lines:
            assert re.fullmatch(r"|#.*|[A-Z0-9_]+=[^\s\"'#$]*", line), line


def test_reading_leaves_the_environment_alone() -> None:
    before = dict(os.environ)
    load_settings(EVERYTHING)
    assert dict(os.environ) == before
