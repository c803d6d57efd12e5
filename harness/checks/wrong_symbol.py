"""Wrong symbol: a trade was accepted under another symbol than its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks._from_takes import Odd, incidents
from harness.checks.tape import parse_trade

if TYPE_CHECKING:
    from harness.checks.case import Case, Take
    from harness.checks.incident import Incident


def find(case: Case) -> list[Incident]:
    """One incident for each stretch of trades booked under the wrong symbol."""
    odd = []
    for index, take in enumerate(case.takes):
        true_symbol = _true_symbol(case, take)
        if true_symbol:
            struck_ns = max(
                (at for at, _, _ in case.changed.get(take.frame, ()) if at <= take.entry.at_ns),
                default=take.entry.at_ns,
            )
            odd.append(Odd(index=index, take=take, struck_ns=struck_ns, what=true_symbol))
    return incidents(
        case,
        odd,
        check="wrong_symbol",
        stage="parse",
        count="wrong",
        cause=_cause,
        suggestion='take the symbol from the payload ("s"), and refuse what does not fit the stream',
    )


def _true_symbol(case: Case, take: Take) -> str:
    # The symbol that the trade really has, when it is not the one it was accepted under.
    number = take.entry.trade_id
    if take.frame < 0 and take.sent is None and number is not None:
        others = [symbol for symbol in case.tape.symbols_with(number) if symbol != take.symbol]
        return others[0] if others else ""
    if (
        take.frame in case.changed
        and number is not None
        and not case.fetched(take.symbol, take.frame, take.entry.at_ns)
    ):
        for at_ns, data, _ in case.changed[take.frame]:
            sent = parse_trade(data)
            if at_ns <= take.entry.at_ns and sent is not None and sent.symbol not in ("", take.symbol):
                return sent.symbol
    if take.frame < 0 and take.symbol not in case.question.symbols:
        return "another symbol"
    return ""


def _cause(case: Case, run: list[Odd]) -> str:  # noqa: ARG001 - the signature that all causes share
    first = run[0]
    trades = f"{len(run)} trades of {first.what} were" if len(run) > 1 else f"a trade of {first.what} was"
    return f"{trades} accepted as {first.take.symbol or 'no symbol at all'} (id {first.take.entry.trade_id})"
