"""Whose content is next, against a model that looks at everybody each time."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from palfrey.protocols.http2.schedule import Schedule
from tests.support.properties import examples


@dataclass(eq=False)
class Item:
    """As much of a stream as a schedule looks at."""

    name: int
    urgency: int = 3
    incremental: bool = True
    queued: int = 1


def schedule(*items: Item) -> Schedule:
    made = Schedule()
    for item in items:
        made.add(item)  # type: ignore[arg-type]
    return made


def turns(of: Schedule, count: int) -> list[int]:
    """Who writes the next frames, all of whom have more."""
    names = []
    for _ in range(count):
        first = of.first()
        names.append(first.name)  # type: ignore[attr-defined]
        of.took_turn(first)
    return names


def test_empty_until_something_is_there() -> None:
    item = Item(1)
    of = schedule(item)
    assert of
    of.remove(item)  # type: ignore[arg-type]
    assert not of


def test_parts_in_turns_and_wholes_one_after_the_other() -> None:
    assert turns(schedule(Item(1), Item(2), Item(3)), 6) == [1, 2, 3, 1, 2, 3]
    assert turns(schedule(Item(1, incremental=False), Item(2, incremental=False)), 4) == [1, 1, 1, 1]
    # A whole one stays in front once it is there; parts before it have had their turn.
    assert turns(schedule(Item(1), Item(2, incremental=False), Item(3)), 5) == [1, 2, 2, 2, 2]


def test_the_most_urgent_first() -> None:
    of = schedule(Item(1, 7), Item(2, 0), Item(3, 3), Item(4, 0))
    assert turns(of, 4) == [2, 4, 2, 4]


def test_what_takes_no_window_before_all_else() -> None:
    of = schedule(Item(1, 0), end := Item(2, 7, queued=0), Item(3, 0))
    assert turns(of, 1) == [2]
    end.queued, end.urgency = 1, 3  # it stays where it is
    of.remove(end)  # type: ignore[arg-type]
    assert turns(of, 2) == [1, 3]


@examples(300)
@given(st.data())
def test_as_the_model_has_it(data: st.DataObject) -> None:
    of, model, next_name = Schedule(), [], 0
    for _ in range(data.draw(st.integers(1, 60))):
        step = data.draw(st.sampled_from(["add", "turn", "turn", "remove", "leave"]))
        if step == "add":
            next_name += 1
            item = Item(next_name, data.draw(st.integers(0, 7)), data.draw(st.booleans()))
            of.add(item)  # type: ignore[arg-type]
            model.append(item)
        elif model:
            expected = min(model, key=lambda each: each.urgency)
            assert of.first() is expected
            if step == "turn":
                of.took_turn(expected)  # type: ignore[arg-type]
                if expected.incremental:
                    model.remove(expected)
                    model.append(expected)
            else:
                gone = expected if step == "leave" else data.draw(st.sampled_from(model))
                of.remove(gone)  # type: ignore[arg-type]
                model.remove(gone)
        assert bool(of) == bool(model)


@examples(100)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=20))
def test_nobody_waits_for_more_than_one_turn_of_each_other_of_its_urgency(urgencies: list[int]) -> None:
    items = [Item(number, urgency) for number, urgency in enumerate(urgencies)]
    best = [item.name for item in items if item.urgency == min(urgencies)]
    assert turns(schedule(*items), 3 * len(best)) == best * 3
