"""Every environment variable, with its default and its limits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import quote, quote_plus

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from jobqueue.errors import ConfigurationError
from jobqueue.settings.database_url import DatabaseUrl
from jobqueue.settings.environment_values import (
    Network,
    base_url,
    bucket,
    endpoint,
    existing_file,
    flag,
    http_url,
    listen_host,
    name,
    networks,
    number,
    one_of,
    size,
    whole,
)
from jobqueue.settings.secret import KeyName, Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_GIB: Final = 1024 * _MIB
_TIB: Final = 1024 * _GIB

_RAID: Final = ("raid_pub_endpoint", "raid_publisher_secret")
_STORE: Final = ("b2_key_id", "b2_app_key", "b2_bucket", "b2_region", "b2_endpoint", "cdn_base_url")
_BACKEND: Final = ("backend_url", "worker_api_key")


@dataclass(frozen=True, slots=True)
class MediaSettings:
    """The variables that publishing and zipping need, all of them set."""

    raid_pub_endpoint: str
    raid_publisher_secret: Secret
    b2_key_id: KeyName
    b2_app_key: Secret
    b2_bucket: str
    b2_region: str
    b2_endpoint: str
    cdn_base_url: str


@dataclass(frozen=True, slots=True)
class BackendAccess:
    """The variables that calls to the backend need, all of them set."""

    backend_url: str
    worker_api_key: Secret


class Settings(BaseSettings):
    """The environment of one process. An attribute is its variable's name in lower case.

    A variable may also come from a file of its name in the directory that CREDENTIALS_DIRECTORY names (systemd's
    LoadCredential=); the environment wins. An empty variable counts as unset, and an unknown one is ignored. Printing or
    dumping this shows no secret.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, validate_default=False)

    database_url: Annotated[DatabaseUrl, Field(examples=["postgresql://worker:password@db.example.com:5432/app"])]
    database_direct_url: Annotated[
        DatabaseUrl | None, Field(examples=["postgresql://worker:password@db.example.com:5432/app"])
    ] = None

    raid_pub_endpoint: Annotated[str | None, http_url(), Field(examples=["https://raid.example.com/files"])] = None
    raid_publisher_secret: Annotated[Secret | None, Field(examples=["a-long-random-text"])] = None

    b2_key_id: Annotated[KeyName | None, Field(examples=["004a1b2c3d4e5f60000000001"])] = None
    b2_app_key: Annotated[Secret | None, Field(examples=["K004xxxxxxxxxxxxxxxxxxxxxxxxxxx"])] = None
    b2_bucket: Annotated[
        str | None,
        bucket(),
        Field(examples=["app-media"]),
    ] = None
    b2_region: Annotated[
        str | None,
        name(r"[A-Za-z0-9-]{1,63}", "a region's name: letters, digits and hyphens"),
        Field(examples=["us-west-004"]),
    ] = None
    b2_endpoint: Annotated[str | None, endpoint(), Field(examples=["s3.us-west-004.backblazeb2.com"])] = None
    cdn_base_url: Annotated[str | None, base_url(), Field(examples=["https://cdn.example.com"])] = None

    worker_poll_interval: Annotated[int, whole(10, 3_600_000), Field(examples=["15000"])] = 15_000
    concurrency: Annotated[int, whole(1, 1000), Field(examples=["3"])] = 3
    max_retries: Annotated[int, whole(0, 1000), Field(examples=["5"])] = 5
    lease_seconds: Annotated[int, whole(2, 86_400), Field(examples=["60"])] = 60
    drain_timeout: Annotated[int, whole(0, 86_400), Field(examples=["30"])] = 30

    max_source_bytes: Annotated[int, size(1, _TIB), Field(examples=["100MiB"])] = 100 * _MIB
    max_source_pixels: Annotated[int, whole(1, 10_000_000_000), Field(examples=["120000000"])] = 120_000_000
    memory_budget: Annotated[int | None, size(16 * _MIB, 16 * _TIB), Field(examples=["512MiB"])] = None
    max_media_files_per_zip: Annotated[int, whole(1, 1_000_000), Field(examples=["500"])] = 500
    max_zip_size_bytes: Annotated[int, size(_KIB, 5 * _TIB), Field(examples=["2GiB"])] = 2 * _GIB

    http_host: Annotated[str, listen_host(), Field(examples=["0.0.0.0"])] = "0.0.0.0"  # noqa: S104 - a container's probes come from outside
    port: Annotated[int, whole(0, 65_535), Field(examples=["8080"])] = 8080
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, networks(), Field(examples=["10.0.0.0/8"])] = ()
    cron_allowed_cidrs: Annotated[
        tuple[Network, ...], NoDecode, networks(), Field(examples=["192.0.2.10/32,2001:db8::/32"])
    ] = ()
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        one_of("debug", "info", "warning", "error"),
        Field(examples=["info"]),
    ] = "info"
    log_format: Annotated[Literal["json", "text"], one_of("json", "text"), Field(examples=["json"])] = "json"

    cron_secret: Annotated[Secret | None, Field(examples=["a-long-random-text"])] = None
    cron_job_api_key: Annotated[Secret | None, Field(examples=["a-long-random-text"])] = None
    worker_webhook_secret: Annotated[Secret | None, Field(examples=["a-long-random-text"])] = None

    retention_days: Annotated[int, whole(1, 36_500), Field(examples=["90"])] = 90
    notification_expiry_batch_size: Annotated[int, whole(1, 1_000_000), Field(examples=["1000"])] = 1000
    data_archival_batch_size: Annotated[int, whole(1, 1_000_000), Field(examples=["10000"])] = 10_000
    archive_before_delete: Annotated[bool, flag(), Field(examples=["true"])] = True
    archive_bucket: Annotated[
        str | None,
        bucket(),
        Field(examples=["app-archives"]),
    ] = None

    max_webhook_retries: Annotated[int, whole(0, 1000), Field(examples=["5"])] = 5
    webhook_retry_backoff_base: Annotated[float, number(1, 3600), Field(examples=["2"])] = 2.0
    webhook_allow_http: Annotated[bool, flag(), Field(examples=["false"])] = False
    webhook_allowed_cidrs: Annotated[
        tuple[Network, ...], NoDecode, networks(), Field(examples=["127.0.0.0/8,10.0.0.0/8"])
    ] = ()

    backend_url: Annotated[str | None, base_url(), Field(examples=["https://backend.example.com"])] = None
    worker_api_key: Annotated[Secret | None, Field(examples=["a-long-random-text"])] = None
    schedules_file: Annotated[Path | None, existing_file(), Field(examples=["/etc/jobqueue/schedules.toml"])] = None
    scheduler_is_primary: Annotated[bool, flag(), Field(examples=["true"])] = True

    groups: ClassVar[tuple[tuple[str, ...], ...]] = (_RAID, _STORE, _BACKEND)
    _environ: Mapping[str, str] = PrivateAttr(default_factory=dict)

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read `environ`. Raises ConfigurationError with every problem in it."""
        directory = environ.get("CREDENTIALS_DIRECTORY", "")
        present: dict[str, Any] = {
            field: environ[field.upper()] for field in type(self).model_fields if environ.get(field.upper(), "").strip()
        }
        super().__init__(_secrets_dir=directory if directory and Path(directory).is_dir() else None, **present)
        self._environ = {key: value for key, value in environ.items() if key.startswith("PG")}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the values given to `__init__` and the credentials directory, and no file of the working directory."""
        return init_settings, file_secret_settings

    @model_validator(mode="wrap")
    @classmethod
    def _check_all(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Report problems of single variables and of groups together, in the order of the fields."""
        present = {field: value for field, value in values.items() if not isinstance(value, str) or value.strip()}
        problems: dict[str, str] = {}
        settings: Self | None = None
        try:
            settings = handler(present)
        except ValidationError as invalid:
            for error in invalid.errors(include_url=False, include_input=False):
                field = str(error["loc"][0])
                problems[field] = _phrase(error["type"], error["msg"], present.get(field))
        for group in cls.groups:
            given = [field for field in group if field in present]
            for field in group if given else ():
                if field not in present:
                    problems[field] = f"is not set, but {given[0].upper()} is and needs it"
        if settings is None or problems:
            raise ConfigurationError([_line(field, problems[field]) for field in cls.model_fields if field in problems])
        return settings

    @property
    def conninfo(self) -> str:
        """The connection string for everything that keeps no session state. It holds the password: never print it."""
        return self.database_url.conninfo(self._environ)

    @property
    def direct_conninfo(self) -> str:
        """The connection string for LISTEN and advisory locks, past a transaction pooler. It holds the password."""
        return (self.database_direct_url or self.database_url).conninfo(self._environ)

    @property
    def pooled(self) -> bool:
        """Whether `conninfo` leads to a transaction pooler, where prepared statements must be off."""
        return self.database_direct_url not in (None, self.database_url)

    @property
    def has_media(self) -> bool:
        """Whether any variable of publishing and zipping is set, which means that all must be."""
        return any(getattr(self, field) is not None for field in (*_RAID, *_STORE))

    def require_media(self) -> MediaSettings:
        """Give the variables that publishing and zipping need. Raises ConfigurationError, which lists those that are not set."""
        return MediaSettings(**self._require((*_RAID, *_STORE), "is not set, but publishing and zipping need it"))

    def require_backend(self) -> BackendAccess:
        """Give the variables that calls to the backend need. Raises ConfigurationError, which lists those that are not set."""
        return BackendAccess(**self._require(_BACKEND, "is not set, but calls to the backend need it"))

    def _require(self, fields: tuple[str, ...], problem: str) -> dict[str, Any]:
        values = {field: getattr(self, field) for field in fields}
        missing = [field for field in fields if values[field] is None]
        if missing:
            raise ConfigurationError([_line(field, problem) for field in missing])
        return values

    def secrets(self) -> tuple[str, ...]:
        """Every secret that was loaded, as it is and as it appears inside a URL: no output may hold one."""
        values = [form for value in vars(self).values() if isinstance(value, DatabaseUrl) for form in value.secrets()]
        plain = [word for value in vars(self).values() if isinstance(value, Secret) for word in value.accepted]
        if password := self._environ.get("PGPASSWORD"):
            plain.append(password)
        values += [form for word in plain for form in (word, quote(word, safe=""), quote_plus(word))]
        return tuple(dict.fromkeys(values))


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check `environ`, or the environment of this process when it is None.

    Raises ConfigurationError with one line per problem, all of them at once; no line holds a value from `environ`.
    """
    return Settings(os.environ if environ is None else environ)


def _phrase(kind: str, message: str, value: object) -> str:
    if kind == "missing":
        return "is not set"
    phrase = message.removeprefix("Value error, ")
    if isinstance(value, str) and value.strip()[:1] in ('"', "'"):
        phrase += " (the value carries quotation marks: leave them out)"
    return phrase


def _line(field: str, problem: str) -> str:
    variable = field.upper()
    return f"{variable} {problem}; for example {variable}={Settings.model_fields[field].examples[0]}"  # type: ignore[index] # every field has an example, a test holds it
