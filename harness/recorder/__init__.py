"""The recorder: a live exchange to frames on disk.

endpoints   where streams are; which words of a URL are secret
deframer    WebSocket bytes to messages
wire        one connection, every message at the moment its bytes came
sieve       every trade once, every hole told
scribe      the thread that writes: sieve, journal, fsync, compaction
backfill    what is missing, over REST
resume      after a crash: where the recorder before this one was cut off
recorder    keeps connections up, replaces them in time, notices when it is mute or blind
health      progress, status file, Prometheus
upload      finished recordings to an object store
proxy       the same for a program of somebody else's: both directions, between it and the exchange
"""
