"""Every setting of the product, read from the environment once. `.env.example` lists them with their defaults."""

import json
import os
import sys
from pathlib import Path

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
if (BASE_DIR / ".env").is_file():
    env.read_env(BASE_DIR / ".env")

VERSION = "0.1.0"
# Everything that the product writes on its own host: the SQLite file, uploads, exports, the embedded broker's log.
DATA_DIR = Path(env("DATA_DIR", default=str(BASE_DIR / "var")))

# --- Database ---------------------------------------------------------------------------------------------------------
DATABASE_URL = env("DATABASE_URL", default="")
if DATABASE_URL:
    DATABASES = {"default": env.db_url_config(DATABASE_URL)}
else:
    DATA_DIR.mkdir(parents=True, exist_ok=True)
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(DATA_DIR / "db.sqlite3")}}
DATABASE_IS_SQLITE = DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3"
if DATABASE_IS_SQLITE:
    # IMMEDIATE takes the write lock at BEGIN, so that reading and then writing in one transaction cannot deadlock.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-65536;",
    }
else:
    DATABASES["default"]["CONN_MAX_AGE"] = 60
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Keys -------------------------------------------------------------------------------------------------------------


def _local_keys() -> dict[str, str]:
    """Keys for a one-host SQLite installation, made once and kept beside its database, readable by its owner alone."""
    path = DATA_DIR / "local_keys.json"
    DATA_DIR.mkdir(parents=True, exist_ok=True)
    fresh = {"SECRET_KEY": get_random_secret_key(), "FIELD_ENCRYPTION_KEYS": Fernet.generate_key().decode()}
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(fresh))
    try:
        # A link fails when the name exists, so of two processes started together exactly one decides the keys.
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return json.loads(path.read_text())


SECRET_KEY = env("SECRET_KEY", default="")
FIELD_ENCRYPTION_KEYS = env.list("FIELD_ENCRYPTION_KEYS", default=[])
if not SECRET_KEY or not FIELD_ENCRYPTION_KEYS:
    if not DATABASE_IS_SQLITE:
        raise ImproperlyConfigured(
            "SECRET_KEY and FIELD_ENCRYPTION_KEYS must be set when DATABASE_URL names a database server, "
            "because every host must hold the same keys. `.env.example` shows how to make them."
        )
    _keys = _local_keys()
    SECRET_KEY = SECRET_KEY or _keys["SECRET_KEY"]
    FIELD_ENCRYPTION_KEYS = FIELD_ENCRYPTION_KEYS or [_keys["FIELD_ENCRYPTION_KEYS"]]
if SECRET_KEY in FIELD_ENCRYPTION_KEYS:
    raise ImproperlyConfigured("FIELD_ENCRYPTION_KEYS must not contain SECRET_KEY: one leak would then open both.")

# --- Web --------------------------------------------------------------------------------------------------------------
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
# Where browsers and Attentive's webhooks reach this installation; webhook URLs are built from it.
PUBLIC_URL = env("PUBLIC_URL", default="http://127.0.0.1:8000").rstrip("/")
# DEMO, STAGING or LIVE: shown in the header of every page.
ENVIRONMENT_LABEL = env("ENVIRONMENT_LABEL", default="")
SERVED_OVER_HTTPS = PUBLIC_URL.startswith("https://")
ROOT_URLCONF = "attentive_integration.urls"
WSGI_APPLICATION = "attentive_integration.wsgi.application"
INSTALLED_APPS = [
    "attentive_integration.apps.DashboardAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "axes",
    "csp",
    "import_export",
    "attentive_integration",
    "loyalty",
    "messaging",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = BASE_DIR / "staticfiles"
# Serve straight from the apps' folders, so that a fresh clone needs no collectstatic.
WHITENOISE_USE_FINDERS = True
# The first takes small files, the second the others.
FILE_UPLOAD_HANDLERS = [
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "loyalty.uploads.UploadToDisk",
]
# Uploads and exports. Files never have a URL of their own: a view checks login, site and permission for each download.
STORAGES = {
    "default": {
        "BACKEND": env("FILE_STORAGE_BACKEND", default="django.core.files.storage.FileSystemStorage"),
        "OPTIONS": env.json("FILE_STORAGE_OPTIONS", default={"location": str(DATA_DIR / "files")}),
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576
FILE_UPLOAD_MAX_MEMORY_SIZE = 1_048_576

AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
AXES_VERBOSE = False
AXES_ENABLE_ADMIN = False
AXES_FAILURE_LIMIT = 8
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SERVED_OVER_HTTPS
SECURE_REFERRER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 31_536_000 if SERVED_OVER_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SERVED_OVER_HTTPS
SECURE_SSL_REDIRECT = SERVED_OVER_HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SERVED_OVER_HTTPS else None
X_FRAME_OPTIONS = "DENY"
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}

# --- Language and time ------------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en-us"
LANGUAGES = [("en", "English"), ("fr", "Français")]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_THOUSAND_SEPARATOR = True
TIME_ZONE = "UTC"
USE_TZ = True

# --- Vendors ----------------------------------------------------------------------------------------------------------
ATTENTIVE_API_URL = env("ATTENTIVE_API_URL", default="https://api.attentivemobile.com").rstrip("/")
ANNEX_CLOUD_API_URL = env("ANNEX_CLOUD_API_URL", default="https://s15.socialannex.net/api/3.0").rstrip("/")
# Seconds from the first byte we send to the last we read; past it the outcome of a call counts as unknown.
VENDOR_DEADLINE_SECONDS = env.float("VENDOR_DEADLINE_SECONDS", default=15.0)
# Calls in any sliding second per token and endpoint class, over all processes.
RATE_LIMITS = {
    "SUBSCRIBE": env.int("RATE_LIMIT_SUBSCRIBE", default=10),
    "UNSUBSCRIBE": env.int("RATE_LIMIT_UNSUBSCRIBE", default=5),
    "DEFAULT": env.int("RATE_LIMIT_DEFAULT", default=150),
    "ANNEX_CLOUD": env.int("ANNEX_CLOUD_RATE_LIMIT", default=5),
}

# --- Celery -----------------------------------------------------------------------------------------------------------
# Without REDIS_URL there is no broker: wake-ups are not sent. `run_campaigns` by cron sends and asks; imports and
# exports are run by their commands.
REDIS_URL = env("REDIS_URL", default="")
CELERY_BROKER_URL = REDIS_URL or "memory://"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_DEFAULT_QUEUE = "celery"
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_SOFT_TIME_LIMIT = 90
CELERY_TASK_TIME_LIMIT = 110
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A frozen Redis costs a request at most these two seconds, once; the row in the database is the queue.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 2,
    "socket_connect_timeout": 1,
    "socket_keepalive": True,
    "visibility_timeout": 120,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
}
CELERY_TASK_ROUTES = {
    "messaging.tasks.send_*": {"queue": "send"},
    "loyalty.tasks.import_*": {"queue": "import"},
    "messaging.tasks.export_*": {"queue": "export"},
    "messaging.tasks.webhook_*": {"queue": "webhook"},
}
CELERY_TIMEZONE = "UTC"
# A wake-up that nobody took before the next one comes is of no use any more.
CELERY_BEAT_SCHEDULE = {
    "send what is due": {"task": "messaging.tasks.send_due", "schedule": 5.0, "options": {"expires": 5}},
    "ask waiting members": {"task": "loyalty.tasks.subscribe_waiting", "schedule": 20.0, "options": {"expires": 20}},
    "go on with imports": {"task": "loyalty.tasks.resume_jobs", "schedule": 10.0, "options": {"expires": 10}},
    "delete old import files": {
        "task": "loyalty.tasks.import_files_expire",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "carry out exports": {"task": "messaging.tasks.export_due", "schedule": 30.0, "options": {"expires": 30}},
    "look for unheard opt-outs": {
        "task": "loyalty.tasks.reconcile_silent_sites",
        "schedule": 300.0,
        "options": {"expires": 300},
    },
    "heartbeat": {"task": "messaging.tasks.heartbeat", "schedule": 10.0, "options": {"expires": 10}},
}

# --- Mail and logs ----------------------------------------------------------------------------------------------------
EMAIL_CONFIG = env.email_url("EMAIL_URL", default="consolemail://")
vars().update(EMAIL_CONFIG)
DEFAULT_FROM_EMAIL = env("DEFAULT_FROM_EMAIL", default="loyalty-sms@example.com")
SERVER_EMAIL = DEFAULT_FROM_EMAIL

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"mask": {"()": "attentive_integration.masking.MaskSecrets"}},
    "formatters": {"plain": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "filters": ["mask"], "formatter": "plain"},
    },
    "root": {"handlers": ["console"], "level": env("LOG_LEVEL", default="INFO")},
    # Django gives the lines of `runserver` a handler of its own, which masks nothing.
    "loggers": {"django.server": {"handlers": ["console"], "propagate": False}},
}

TESTING = "pytest" in sys.modules
if TESTING:
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    AXES_ENABLED = False
