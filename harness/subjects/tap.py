"""The tap: where the subject takes a trade, watched without changing what it does.

A method or function is wrapped on the instance (or its class, where slots forbid that); references
that were handed out before, such as `Stream(callback=self.accepted)`, are replaced as well. A list,
deque, queue or dict of those is watched for growth.
"""

from __future__ import annotations

import functools
import gc
import importlib
import inspect
import time
import types
import weakref
from collections import deque
from collections.abc import Mapping, MutableSequence
from typing import TYPE_CHECKING, Any

from harness.clock import monotonic_ns
from harness.errors import SubjectError
from harness.ledger import Accepted
from harness.subjects.loading import TAP_PATHS, look, usual_tap
from harness.subjects.trades import Values, is_symbol, is_trade, read_call, read_item

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.ledger import AnyEntry

_WRAPPED = "_harness_tap"
TUPLES_MAX = 3
"""Tuples within tuples in which a handed-out reference is looked for."""


class Tap:
    """
    Watches where a subject takes trades.

    Args:
        write: takes the entries.
        path: `--tap`: a dotted path from the subject, or `module:path`; None looks for the usual places.
    """

    def __init__(self, write: Callable[[AnyEntry], None], path: str | None = None) -> None:
        self._write = write
        self._path = path
        self.found = ""
        """The path that was found; empty before."""
        self.delay_ns = 0
        """Pause after each trade, as a consumer that is too slow makes it (`host.slow_consumer`)."""
        self._watches: dict[str, _Watch] = {}

    def attach(self, subject: Any) -> bool:
        """
        Find the tap and watch it; call again while it is not found, and now and then after that.

        Returns:
            Whether a tap is being watched.
        """
        paths = (self._path,) if self._path else ((self.found,) if self.found else TAP_PATHS)
        # A callback that nobody has set (`on_trade = None`) is a tap only where there is no other.
        for path, empty in [*((path, False) for path in paths), *((path, True) for path in paths)]:
            if path and self._attach(subject, path, empty=empty):
                self.found = path
                return True
        return bool(self.found)

    def poll(self) -> None:
        """Look at the containers that are watched."""
        for watch in list(self._watches.values()):
            self._accept_all(watch.fresh())

    def take(self, item: Any) -> None:
        """Count one item that the subject handed out itself, by `async for`."""
        self.found = self.found or "async for"
        for values in read_item(item):
            self._accept(values)

    def _attach(self, subject: Any, path: str, *, empty: bool) -> bool:
        owner, name = self._owner(subject, path)
        if owner is None:
            return False
        try:
            target = getattr(owner, name)
        except Exception:
            return False  # not there, or a property that raises before start()
        if getattr(target, _WRAPPED, False):
            return True
        if target is None and not empty:
            return False
        if target is None or callable(target):
            wrapped = self._wrap(target)
            _replace_captured(target, wrapped)
            _put(owner, name, wrapped)
            return True
        return self._watch(target, path)

    def _owner(self, subject: Any, path: str) -> tuple[Any, str]:
        module_name, colon, inner = path.partition(":")
        if colon:
            try:
                subject = importlib.import_module(module_name)
            except ImportError as problem:
                raise SubjectError(f"--tap {path}: {problem}") from problem
            path = inner
        *parents, name = path.split(".")
        return look(subject, ".".join(parents)) if parents else subject, name

    def _watch(self, target: Any, path: str) -> bool:
        if hasattr(target, "put_nowait"):
            return self._watch_queue(target)
        if isinstance(target, (MutableSequence, deque, Mapping)):
            watch = self._watches.setdefault(path, _Watch(target))
            if watch.target is not target:
                # The subject put another container in its place, as who hands on what it has collected does.
                self._accept_all(watch.fresh())
                watch.turn_to(target)
            return True
        return False

    def _watch_queue(self, target: Any) -> bool:
        # `await put()` ends in `put_nowait`; where `put` blocks, it is the other way round.
        name = "put_nowait" if inspect.iscoroutinefunction(getattr(target, "put", None)) else "put"
        method = getattr(target, name, None) or target.put_nowait
        if not getattr(method, _WRAPPED, False):
            try:
                _put(target, method.__name__, self._wrap(method))
            except TypeError:
                return False  # made in C, such as `queue.SimpleQueue`: nobody can listen to it
        return True

    def _wrap(self, original: Callable[..., Any] | None) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(original):

            @functools.wraps(original)
            async def wrapped_async(*args: Any, **kwargs: Any) -> Any:
                result = await original(*args, **kwargs)
                self._called(original, args, kwargs, result)
                return result

            setattr(wrapped_async, _WRAPPED, True)
            return wrapped_async

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs) if original is not None else None
            if inspect.iscoroutine(result):
                return self._after(result, original, args, kwargs)
            self._called(original, args, kwargs, result)
            return result

        if original is not None:
            functools.update_wrapper(wrapped, original, updated=())
        setattr(wrapped, _WRAPPED, True)
        return wrapped

    async def _after(self, running: Any, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = await running
        self._called(original, args, kwargs, result)
        return result

    def _called(self, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: object) -> None:
        # A tap that raises did not take the trade, nor did one that answers False.
        if result is False:
            return
        if isinstance(original, types.FunctionType) and args and "self" in original.__code__.co_varnames[:1]:
            args, original = args[1:], None
        for values in read_call(original, args, kwargs):
            self._accept(values)
        if self.delay_ns:
            time.sleep(self.delay_ns / 1e9)

    def _accept_all(self, items: list[tuple[str, Any]]) -> None:
        for symbol, item in items:
            for values in read_item(item, symbol):
                self._accept(values)

    def _accept(self, values: Values) -> None:
        self._write(
            Accepted(
                at_ns=monotonic_ns(),
                symbol=values.symbol,
                trade_id=values.trade_id,
                price=values.price,
                quantity=values.quantity,
                trade_time=values.trade_time,
                is_buyer_maker=values.is_buyer_maker,
            )
        )


class _Watch:
    """What is new in a container since the last look."""

    def __init__(self, target: Any, *, known: bool = True) -> None:
        self.target = target
        self.count = len(target) if known and not isinstance(target, Mapping) else 0
        self.last: Any = target[-1] if self.count else None
        self.turned = False
        self.keys: set[Any] = set()
        self.inner: dict[Any, _Watch] = {}

    def turn_to(self, target: Any) -> None:
        """Look at another container from now on; it may have kept some of what the one before held."""
        self.target, self.turned = target, True

    def fresh(self) -> list[tuple[str, Any]]:
        if isinstance(self.target, Mapping):
            return self._fresh_in_mapping()
        items = list(self.target)
        if isinstance(self.target, deque) or len(items) < self.count or self.turned:
            # Items may have fallen off the front: what stands behind the last one seen is new.
            place = next((i for i in range(len(items) - 1, -1, -1) if items[i] is self.last), -1)
            new = items[place + 1 :]
        else:
            new = items[self.count :]
        self.count, self.turned = len(items), False
        self.last = items[-1] if items else self.last
        return [("", item) for item in new]

    def _fresh_in_mapping(self) -> list[tuple[str, Any]]:
        # By symbol, a container for each; or the trades themselves, by whatever makes them unique.
        found = []
        for key, value in list(self.target.items()):
            symbol = key if isinstance(key, str) and is_symbol(key) else ""
            if _is_shelf(value):
                watch = self.inner.setdefault(key, _Watch(value, known=False))
                if watch.target is not value:
                    found += [(within or symbol, item) for within, item in watch.fresh()]
                    watch.turn_to(value)
                found += [(within or symbol, item) for within, item in watch.fresh()]
            elif key not in self.keys and is_trade(value):
                self.keys.add(key)
                found.append((symbol, value))
        return found


def _is_shelf(value: Any) -> bool:
    # A container of trades, and no trade: a trade in a dictionary has values that are plain.
    if isinstance(value, Mapping):
        return all(isinstance(each, (Mapping, MutableSequence, deque)) for each in value.values())
    return isinstance(value, (MutableSequence, deque))


def find_tap(subject: Any) -> str:
    """The path of the tap of a subject, or nothing."""
    return usual_tap(subject)


def _put(owner: Any, name: str, wrapped: Callable[..., Any]) -> None:
    if inspect.isclass(owner) or inspect.ismodule(owner):
        setattr(owner, name, wrapped)
        return
    try:
        setattr(owner, name, wrapped)
    except AttributeError:
        # No room on the instance (`__slots__`): wrap in the class, for this instance alone.
        _put_in_class(owner, name, wrapped)


def _put_in_class(owner: Any, name: str, wrapped: Callable[..., Any]) -> None:
    original = getattr(type(owner), name)
    try:
        mine = weakref.ref(owner)
    except TypeError:

        def mine() -> Any:  # type: ignore[misc] # a slotted object without weak references is kept alive
            return owner

    def chosen(self: Any, *args: Any, **kwargs: Any) -> Any:
        return wrapped(*args, **kwargs) if self is mine() else original(self, *args, **kwargs)

    setattr(chosen, _WRAPPED, True)
    setattr(type(owner), name, chosen)


def _replace_captured(target: Any, wrapped: Callable[..., Any]) -> None:
    # A bound method handed to somebody before we came: find who holds it.
    if not isinstance(target, types.MethodType):
        return
    # `type`, not `isinstance`: a dead weak proxy among all the objects raises when it is asked for its class.
    same = [o for o in gc.get_objects() if type(o) is types.MethodType and o is not target and o == target]
    for method in same:
        for holder in gc.get_referrers(method):
            if holder is not same:
                _swap(holder, method, wrapped)


def _swap(holder: Any, old: Any, new: Any, depth: int = 0) -> None:
    # Put something in the place of what an object holds, wherever it has it.
    if isinstance(holder, dict):
        for key in [k for k, v in holder.items() if v is old]:
            holder[key] = new
    elif isinstance(holder, (list, deque)):
        for index in [i for i, v in enumerate(holder) if v is old]:
            holder[index] = new
    elif isinstance(holder, set):
        holder.discard(old)
        holder.add(new)
    elif isinstance(holder, types.CellType):
        holder.cell_contents = new
    elif type(holder) is tuple and depth < TUPLES_MAX:
        # Nothing can be put into a tuple: whoever holds it gets another one.
        other = tuple(new if each is old else each for each in holder)
        for outer in gc.get_referrers(holder):
            _swap(outer, holder, other, depth + 1)
    elif type(holder) is functools.partial:
        func, args = (new if each is old else each for each in (holder.func, holder.args))
        named = {key: new if each is old else each for key, each in holder.keywords.items()}
        holder.__setstate__((func, args, named, vars(holder)))  # type: ignore[attr-defined] # as unpickling does
    else:
        _swap_fields(holder, old, new)


def _swap_fields(holder: Any, old: Any, new: Any) -> None:
    slots = [name for kind in type(holder).__mro__ for name, slot in vars(kind).items() if _is_slot(slot)]
    for name in [*getattr(holder, "__dict__", ()), *slots]:
        if getattr(holder, name, None) is old:
            # As a frozen dataclass writes its own fields.
            (type if isinstance(holder, type) else object).__setattr__(holder, name, new)


def _is_slot(value: object) -> bool:
    return type(value) is types.MemberDescriptorType
