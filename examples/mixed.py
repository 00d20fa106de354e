"""Three daemons on two loops: each lives in a process of its own, on the loop that its libraries are made for.

    source (asyncio)  --numbers-->  factors (trio)  --products-->  writer (asyncio)

python examples/mixed.py
"""

import asyncio
import math
import tempfile
from pathlib import Path

import msgspec
import trio
from msgspec import Struct

from geartrain import Context, Pipeline, ReceiveStream, SendStream, daemon, run

NUMBERS = (1001, 1729, 65535, 999_983, 1_000_001)


class Product(Struct):
    number: int
    factors: list[int]


@daemon
async def source(ctx: Context, numbers: SendStream[int]) -> None:
    """An asyncio program, with a queue of asyncio's between two of its tasks."""
    queue: asyncio.Queue[int] = asyncio.Queue()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fill(queue))
        for _ in NUMBERS:
            await numbers.send(await queue.get())


async def fill(queue: asyncio.Queue[int]) -> None:
    for number in NUMBERS:
        await queue.put(number)


@daemon
async def factors(ctx: Context, numbers: ReceiveStream[int], products: SendStream[Product]) -> None:
    """A trio program: the factors are looked for in a thread of trio's, for a minute at most."""
    async for number in numbers:
        with trio.fail_after(60):
            found = await trio.to_thread.run_sync(factors_of, number)
        await products.send(Product(number, found))


def factors_of(number: int) -> list[int]:
    divisor = next((divisor for divisor in range(2, math.isqrt(number) + 1) if number % divisor == 0), number)
    return [divisor] if divisor == number else [divisor, *factors_of(number // divisor)]


@daemon
async def writer(ctx: Context, products: ReceiveStream[Product], path: Path) -> None:
    """An asyncio program again: the file is written in a thread of asyncio's."""
    async for product in products:
        await asyncio.to_thread(append, path, msgspec.json.encode(product))


def append(path: Path, line: bytes) -> None:
    with path.open("ab") as file:
        file.write(line + b"\n")


def pipeline(path: Path) -> Pipeline:
    p = Pipeline("mixed", backend="asyncio")
    p.add(source)
    p.add(factors)
    p.add(writer, config={"path": path})
    p.process("factors", backend="trio")
    p.connect("source.numbers", "factors.numbers")
    p.connect("factors.products", "writer.products")
    return p


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "products"
        run(pipeline(path))
        products = [msgspec.json.decode(line, type=Product) for line in path.read_bytes().splitlines()]
    for product in products:
        print(f"{product.number} = {' x '.join(map(str, product.factors))}")
    print(f"{len(products)} numbers went from asyncio to trio and back.")


if __name__ == "__main__":
    main()
