"""Daemons that call and are called, for pipelines of tests: they run in processes of their own."""

import os

import anyio
from msgspec import Struct

from geartrain import Caller, CallFailed, Calls, CallTimeout, Context, Daemon, ServerGone
from tests.walks.parts import misbehave


class Question(Struct):
    number: int


class Answer(Struct):
    number: int
    redelivered: bool


class Book:
    """Lines in a file, which outlives whoever writes them."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, *words: object) -> None:
        os.write(self._fd, " ".join(map(str, words)).encode() + b"\n")


class Asker(Daemon):
    """Asks 0, 1, 2 ..., so many at a time, and writes down what came of it."""

    def __init__(
        self, svc: Caller[Question, Answer], ledger: str, total: int, at_once: int = 1, timeout_s: float | None = None
    ) -> None:
        self.svc = svc
        self.ledger = Book(ledger)
        self.left = iter(range(total))
        self.at_once = at_once
        self.timeout_s = timeout_s

    async def run(self, ctx: Context) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(self.at_once):
                tasks.start_soon(self._ask_some)

    async def _ask_some(self) -> None:
        for number in self.left:
            self.ledger.write(number, await self._ask(number))

    async def _ask(self, number: int) -> str:
        try:
            answer = await self.svc.call(Question(number), self.timeout_s)
        except CallFailed as error:
            return f"{error.daemon}:{error.kind}:{error.message}:{'misbehave' in error.trace}"
        except (CallTimeout, ServerGone) as error:
            return type(error).__name__
        assert answer.number == number
        return "again" if answer.redelivered else "answered"


class Server(Daemon):
    """Answers; at one number it does what it is told, the first time it meets it, or always."""

    def __init__(
        self, calls: list[Calls[Question, Answer]], at: int = -1, does: str = "raise", most: int = 1, lives: str = ""
    ) -> None:
        self.calls = calls
        self.at = at
        self.does = does
        self.most = most
        self.lives = lives

    async def run(self, ctx: Context) -> None:
        async with anyio.create_task_group() as tasks:
            for calls in self.calls:
                tasks.start_soon(self._serve, calls)

    async def _serve(self, calls: Calls[Question, Answer]) -> None:
        async for call in calls:
            number = call.request.number
            if number == self.at and (not call.redelivered or self.most > 1):
                await self._stumble()
                if self.does == "leave":
                    return
            await call.reply(Answer(number, call.redelivered))

    async def _stumble(self) -> None:
        if self.does == "dawdle":
            await anyio.sleep(0.3)
        elif self.does == "outlive":
            while os.stat(self.lives).st_size < len("life\nlife\n"):
                await anyio.sleep(0.001)
        elif self.does != "leave":
            misbehave(self.does)


class Handler(Daemon):
    """Answers by a handler, which does not answer everything."""

    def __init__(self, calls: Calls[Question, Answer]) -> None:
        self.calls = calls

    async def run(self, ctx: Context) -> None:
        await self.calls.serve(self._answer)

    async def _answer(self, question: Question) -> Answer:
        if question.number == 1:
            misbehave("raise")
        return Answer(question.number, redelivered=False)


class Mortal(Daemon):
    """Asks one question after another; its first life dies with some under way. It enters each life into a book."""

    def __init__(self, svc: Caller[Question, Answer], ledger: str, total: int, lives: str) -> None:
        self.svc = svc
        self.ledger = Book(ledger)
        self.total = total
        self.is_first = not os.path.exists(lives)
        self.lives = Book(lives)

    async def run(self, ctx: Context) -> None:
        async with anyio.create_task_group() as tasks:
            if self.is_first:
                for number in range(100, 105):
                    tasks.start_soon(self.svc.call, Question(number))
            else:
                tasks.start_soon(self._ask_all)
            # Its first request is on its way.
            while not self.svc.statistics().calls:
                await anyio.sleep(0.001)
            self.lives.write("life")
            if self.is_first:
                await anyio.sleep(0.05)
                misbehave("die")
        self.ledger.write("late", self.svc.statistics().late)

    async def _ask_all(self) -> None:
        for number in range(self.total):
            answer = await self.svc.call(Question(number))
            self.ledger.write(number, answer.number)
