"""The function of a service: which are taken, and how they are declared in code."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from geartrain import Context, Pipeline, ServiceRun, daemon
from geartrain.engine.services import checked_job, load_job
from geartrain.errors import BadType, BadValue, CannotLoad, GeartrainError


async def report(run: ServiceRun) -> None: ...


def tidy(run: ServiceRun, how: str = "well") -> None: ...


async def too_many(run: ServiceRun, how: str) -> None: ...


async def none() -> None: ...


@daemon
async def always(ctx: Context) -> None: ...


@pytest.mark.parametrize("job", [report, tidy, partial(too_many, how="so"), print])
def test_a_function_of_one_argument_is_taken(job: Any) -> None:
    assert checked_job(job, "it") is job


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (too_many, "cannot be called with one argument, the ServiceRun of its cycle"),
        (none, "cannot be called with one argument"),
        (always, "is a daemon, which runs all the time"),
        (Path, "a service runs a function"),
        (3, "a service runs a function"),
    ],
)
def test_anything_else_is_refused_in_words(job: object, said: str) -> None:
    with pytest.raises(CannotLoad, match=said):
        checked_job(job, "it")


def test_a_function_is_loaded_by_its_name() -> None:
    assert load_job("tests.engine.test_services:report") is not None
    with pytest.raises(CannotLoad, match="has no 'reprot'"):
        load_job("tests.engine.test_services:reprot")


def test_a_service_in_code_is_as_in_a_file() -> None:
    pipeline = Pipeline("p")
    pipeline.service(report, every=5)
    (service,) = pipeline.spec.services
    assert (service.name, service.run, service.every) == ("report", "tests.engine.test_services:report", 5)
    assert pipeline.check() == ()
    assert [daemon.name for daemon in pipeline.whole.daemons] == ["report-1", "report-2", "services"]


@pytest.mark.parametrize(
    "how", [{"every": 0}, {"replicas": 0}, {"replicas": []}, {"replicas": "ab"}, {"replicas": True}, {"overlap": "no"},
            {"missed": "no"}, {"grace": -1}, {"silent_after": 0}, {"name": ""}]
)  # fmt: skip
def test_bad_values_in_code_are_refused_at_once(how: dict[str, Any]) -> None:
    with pytest.raises((BadValue, BadType)):
        Pipeline("p").service(report, **({"every": 5} | how))


def test_a_second_service_of_a_name_is_refused() -> None:
    pipeline = Pipeline("p")
    pipeline.service(report, every=5)
    with pytest.raises(BadValue, match="there is a service 'report' already"):
        pipeline.service(report, every=5)


def test_a_function_that_no_other_process_finds_is_refused() -> None:
    async def inside(run: ServiceRun) -> None: ...

    with pytest.raises(GeartrainError, match="defined inside a function"):
        Pipeline("p").service(inside, every=5)


def test_a_file_that_names_no_such_function_is_told_with_all_other_faults(tmp_path: Path) -> None:
    (tmp_path / "books_d.py").write_text("x = 3\n")
    file = tmp_path / "p.toml"
    file.write_text(
        '[pipeline]\nname = "p"\n'
        '[services.a]\nrun = "books_d:x"\nevery = "1s"\n'
        '[services.b]\nrun = "no_such_module:x"\nevery = "-1s"\n'
        '[services.c]\nrun = "books_d.py:y"\nevery = "1s"\nreplicas = ["nowhere"]\n'
        '[services."d e"]\nrun = "tests.engine.test_services:report"\nevery = "1s"\n'
    )
    keys = {fault.key for fault in Pipeline.from_file(file).check()}
    assert keys >= {"services.a.run", "services.b.run", "services.b.every", "services.c.run", "services.c.replicas"}
    assert any("d e" in key for key in keys)
