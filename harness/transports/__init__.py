"""Move bytes and keep time: `live` over loopback sockets, with real TLS; `authority` makes the certificates."""
