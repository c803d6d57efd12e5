"""Order flow from Binance aggTrade streams, built so that it never fails without a word.

In the order in which the data passes:

    settings                   every limit, with its unit and its reason
    explain                    why a connection ended, in words a tired person understands
    symbol_feed                one symbol: connect, receive, put in order; for ever
    trade                      one trade: parsed strictly, kept exactly
    sequencer                  ids: gaps, duplicates, disorder, resets; pure
    repair                     what the stream missed, fetched and put in its place, or given up aloud
    backfill                   the questions to REST
    delivery                   trades in order to the callback, and how late they are
    feed_health                how a feed is, worked out from clocks
    lag                        how far behind the market the data is
    binance_aggtrades_stream   the feeds of all symbols, supervised
    watchdog                   a thread that speaks up when the event loop cannot
    remarks                    warnings that neither flood the log nor get lost
    window                     sums over time windows, exact, at constant cost
    whale_detector             trade history, large orders, pressure, volume spikes
    order_flow_analyzer        one signal out of these
    order_flow_service         all of it, started, stopped and asked for its health
    btc_order_flow_metrics     the figures that a trading plan asks for, or why there are none
    registry                   where a program keeps its service
"""
