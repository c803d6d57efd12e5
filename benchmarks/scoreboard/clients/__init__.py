"""Public clients in their documented default usage, each behind start(symbols) / stop().

`on_trade(symbol, trade)` is where each would hand a trade to a strategy. Nothing is added: no retry, no watchdog, no
logging that the client's own documentation does not show.
"""
