"""The loops of a function's assembly, for x86-64 and aarch64."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_FUNCTION = re.compile(r'"?([\w.$]+)"?:$')
_LABEL = re.compile(r"(\.L\w+):$")
_JUMP = re.compile(r"(?:j[a-z]+|b(?:\.\w+)?|[ct]bn?z)\s+(?:\w+, )?(?:#\d+, )?(\.L\w+)$")
_END = re.compile(r"(?:jmp|b|retq?|ud2|brk)\b(?!\.)")


def functions(assembly: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each function's name and lines."""
    name, lines = "", list[str]()
    for line in assembly.split("\n"):
        text = re.split(r"\s+(?:# |//)", line.rstrip())[0].strip()
        if (found := _FUNCTION.match(text)) and not text.startswith(".L"):
            yield name, lines
            name, lines = found[1], []
        elif _LABEL.match(text) or not text.startswith((".", "#", "//")):
            lines.append(text)
    yield name, lines


def innermost(lines: list[str], counts: Callable[[str], bool]) -> Iterator[list[str]]:
    """Yield the instructions of each loop that holds some that count.

    Loops are left out of which an inner one holds such instructions.
    """
    blocks, following = _blocks(lines)
    loops = _loops(following)
    busy = {
        head: body
        for head, body in loops.items()
        if any(counts(line) for block in body for line in blocks[block])
    }
    for body in busy.values():
        if not any(other < body for other in busy.values()):
            yield [line for block in sorted(body) for line in blocks[block]]


def _blocks(lines: list[str]) -> tuple[list[list[str]], list[list[int]]]:
    """Return the basic blocks, and those that may follow each."""
    blocks, labels = [list[str]()], dict[str, int]()
    for line in lines:
        if label := _LABEL.match(line):
            blocks.append([])
            labels[label[1]] = len(blocks) - 1
            continue
        blocks[-1].append(line)
        if _JUMP.match(line) or _END.match(line):
            blocks.append([])
    following = []
    for place, block in enumerate(blocks):
        last = block[-1] if block else ""
        jump = _JUMP.match(last)
        goes = [labels[jump[1]]] if jump and jump[1] in labels else []
        if not _END.match(last) and place + 1 < len(blocks):
            goes.append(place + 1)
        following.append(goes)
    return blocks, following


def _loops(following: list[list[int]]) -> dict[int, set[int]]:
    """Return the natural loops, by the block where each begins."""
    reached = _from(0, following)
    before = [list[int]() for _ in following]
    for place in reached:
        for other in following[place]:
            before[other].append(place)
    dominators = _dominators(before)
    loops = dict[int, set[int]]()
    for place in reached:
        for head in following[place]:
            if head in dominators[place]:
                ways = [*before]
                ways[head] = []
                loops.setdefault(head, {head}).update(_from(place, ways))
    return loops


def _from(begin: int, following: list[list[int]]) -> set[int]:
    """Return the blocks that are reached from one."""
    found, waiting = set[int](), [begin]
    while waiting:
        block = waiting.pop()
        if block not in found:
            found.add(block)
            waiting += following[block]
    return found


def _dominators(before: list[list[int]]) -> list[set[int]]:
    """Return the blocks that every way to a block goes through."""
    every = set(range(len(before)))
    found = [{0}, *(every for _ in before[1:])]
    changed = True
    while changed:
        changed = False
        for place in range(1, len(before)):
            ways = [found[other] for other in before[place]]
            now = set.intersection(*ways) | {place} if ways else {place}
            changed |= now != found[place]
            found[place] = now
    return found
