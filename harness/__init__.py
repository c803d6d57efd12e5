"""Record an exchange's feed, replay it with faults, and learn whether your code noticed.

The map, in the order of the data:

    errors        every exception, one tree, sorted by whose mistake it is
    clock, seeds  the only readers of real time, and of chance
    frames        one recorded WebSocket event, and the aggTrade payload: columns to bytes and back
    recorder      live exchange to frames
    recording     the Parquet file, its journal and recovery
    sources       other people's files in; `synth` makes markets
    timeline      frames in the order and at the times they were due
    actions       what the simulated exchange may do
    faults        the catalogue, and the plan: a declarative, seeded list of faults
    script        timeline + plan + seed + connection number: the exact actions of that connection
    exchange      the protocol core: bytes in, bytes out, time passed in
    transports    move bytes, keep time
    redirect      the real hosts' names lead to the exchange
    hosts         how the program around the subject runs it
    subjects      the production code under test: loading it, watching it
    ledger        what happened
    checks        one way of being lost or wrong per file
    verdict       what we conclude
    report        a verdict as text, JSON, JUnit, HTML
    scenario      one declarative run
    runner        the only module that knows every stage
    sweep         many runs, shrunk
    cli           the command line
    pytest_plugin the same in a test suite
    strategies    Hypothesis strategies for frames, recordings and plans
"""
