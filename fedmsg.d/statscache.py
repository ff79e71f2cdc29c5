# Settings of statscache. Every key is here with its default; take the comment
# sign away to change one. A flag wins over an environment variable
# (STATSCACHE_ and the rest of the key in capitals, dots as underscores:
# STATSCACHE_STORE_URL; lists and dicts as JSON), which wins over this file.
# Durations are a timedelta, seconds, or a text: "90s", "15m", "36h", "7d",
# "4w", "1y".
config = {
    # Where statscache keeps its state: $STATE_DIRECTORY, else
    # $XDG_STATE_HOME/statscache, else ~/.local/state/statscache.
    # "statscache.data_dir": "/var/lib/statscache",

    # The store: "sqlite:" is statscache.db in the data dir; also
    # "sqlite:///absolute/path" and
    # "crate://user:password@host1:5432,host2:5432/schema?sslmode=disable".
    # "statscache.store.url": "sqlite:",
    # The name of the original statscache for it, used when store.url is absent.
    # "statscache.sqlalchemy.uri": "sqlite:////var/tmp/statscache.sqlite",

    # Consume the bus at all?
    # "statscache.consumer.enabled": True,
    # How far back to fetch history: a datetime (UTC) or a text.
    # "statscache.consumer.epoch": None,
    # Fetch what was missed from the archive below, at every start?
    # "statscache.consumer.catch_up": False,
    # Topics to keep: prefixes; every * is deleted, as fedmsg does.
    # "statscache.consumer.topics": ["*"],
    # Names out of "endpoints" to listen to; default: all of them.
    # "statscache.consumer.endpoints": ["gateway"],
    # "statscache.consumer.max_message_bytes": 1048576,

    # How much may wait on disk when the store is slow or down.
    # "statscache.journal.max_bytes": 1073741824,
    # How often counters are written; longer by itself under load.
    # "statscache.commit.interval": 0.1,
    # The name of the original statscache for it.
    # "statscache.producer.frequency": 0.1,

    # Folders whose executables are plugins; default: "plugins" in the data dir
    # and this one.
    # "statscache.plugins.path": ["/usr/lib/statscache/plugins"],
    # "statscache.plugins.disabled": [],
    # Handed to a plugin as JSON, by its id.
    # "statscache.plugins.config": {"my-plugin": {"option": 1}},

    # Who and what a message is about, before the shipped rules; docs/rules.md
    # tells how to write one.
    # "statscache.rules": [
    #     {"topic": "org.example.*.build.**", "users": "/msg/owner",
    #      "packages": ["/msg/package/name", "nvr /msg/build"]},
    # ],

    # How long events are kept; None: for ever.
    # "statscache.archive.retention": None,
    # How long counters are kept, by interval; None: for ever. Intervals that
    # are given here replace theirs, the others stay.
    # "statscache.retention": {"1s": "7d", "5s": "30d", "15s": "30d", "1m": "1y"},

    # The web server, and the one for metrics and health checks.
    # "statscache.app.listen": "127.0.0.1:8840",
    # "statscache.app.admin_listen": "127.0.0.1:8841",
    # The URL users see, for links behind a proxy; default: from the request.
    # "statscache.app.base_url": "https://stats.example.org",
    # "statscache.app.default_rows_per_page": 100,
    # "statscache.app.maximum_rows_per_page": 100,

    # The archive for backfill and catch_up; default: none.
    # "statscache.datagrepper.endpoint":
    #     "https://apps.fedoraproject.org/datagrepper/raw",
    # Log the progress of a backfill?
    # "statscache.datagrepper.profile": False,
}
