"""Several processes: one curve, one folder, one voice; whoever dies ends all, and the run goes on.

The processes are forks of the test's own, so that PyTorch is imported once; torchrun itself has one test.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.distributed import TCPStore
from torch.distributed.run import main as torchrun

from p2.contract.errors import BackendMissing, P2Error, UsageError
from p2.trainer import checkpoint, loop, ranks, run
from p2.trainer.device import choose_device
from p2.trainer.display import Silent
from p2.trainer.metrics import Report
from p2.trainer.options import TrainOptions
from p2.trainer.ranks import ALONE, Ranks, joined
from p2.trainer.runfolder import read_log

Options = Callable[..., TrainOptions]
Work = Callable[[Ranks], object]

pytestmark = [
    pytest.mark.usefixtures("without_curve"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


class Ended:
    """How each process ended: its exit status, negative for a signal, and what it raised."""

    def __init__(self, codes: list[int], said: list[str]) -> None:
        self.codes = codes
        self.said = said


@pytest.fixture
def together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Do some work in several processes: ``together(work, size=2)``."""
    monkeypatch.setattr(ranks, "TELLING_SECONDS", 0.3)

    def start(work: Work, size: int = 2) -> Ended:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun keeps one
        given = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port}
        given["TORCHELASTIC_USE_AGENT_STORE"] = True
        children = []
        for rank in range(size):
            child = os.fork()
            if not child:
                os.environ.update({name: str(value) for name, value in given.items()}, RANK=str(rank))
                _be_a_process(work, tmp_path / f"said-{rank}")
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        said = [path.read_text() if (path := tmp_path / f"said-{n}").exists() else "" for n in range(size)]
        for path in tmp_path.glob("said-*"):
            path.unlink()
        return Ended(codes, said)

    return start


def _be_a_process(work: Work, said: Path) -> None:
    code = 70
    try:
        with joined() as group:
            work(group)
        code = 0
    except SystemExit as stop:
        code = int(str(stop.code))
    except P2Error as error:
        code = error.exit_code
        said.write_text(str(error))
    except BaseException as error:
        said.write_text(repr(error))
    finally:
        os._exit(code)


class At(Silent):
    """Acts at one update."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self._step, self._act = step, act

    def update(self, report: Report) -> None:
        if report.step == self._step:
            self._act()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def begin(
    options: TrainOptions, text: Path, group: Ranks = ALONE, display: Silent | None = None
) -> run.Result:
    given = {name: value for name, value in vars(options).items() if value is not None}
    return loop.begin(given, [str(text)], display or Silent(), group)


def resume(out: Path, group: Ranks = ALONE, **given: object) -> run.Result:
    return loop.resume({"out": out, **given}, [], Silent(), ranks=group)


def assert_close(a: Path, b: Path) -> None:
    """The same run within rounding: its losses, weights, moments and states."""
    logs = [read_log(folder / "log.jsonl") for folder in (a, b)]
    assert [entry["step"] for entry in logs[0]] == [entry["step"] for entry in logs[1]]
    for one, two in zip(*logs, strict=True):
        assert one.keys() == two.keys()
        for name in set(one) - {"seconds", "characters_per_second"}:
            assert one[name] == pytest.approx(two[name], rel=1e-5)
    found = [checkpoint.load(folder / "last") for folder in (a, b)]
    states = [{**one.model_state, **checkpoint.load_training_state(one)} for one in found]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=1e-3, atol=1e-5)
    assert found[0].record.step == found[1].record.step


KINDS = {
    "windows and dropout": {"dropout": 0.3, "output_dropout": 0.2},
    "stateful, accumulated": {"stateful": True, "accumulate": 2, "dropout": 0.3, "batch_size": 2},
    "all dropout": {
        "dropout": 0.3,
        "variational": True,
        "embedding_dropout": 0.2,
        "recurrent_dropout": 0.2,
        "cell": "gru",
        "accumulate": 2,
        "batch_size": 2,
        "ema": 0.9,
    },
    "weights dropped": {"dropout": 0.3, "output_dropout": 0.2, "weight_drop": 0.2, "cell": "rnn"},
    "gru, reset before": {"cell": "gru", "gru_reset": "before", "dropout": 0.3, "schedule": "plateau"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_learn_as_one_and_one_goes_on(
    kind: str, options: Options, text_file: Path, tmp_path: Path, together: Callable
) -> None:
    changes = KINDS[kind]
    begin(options(**changes, steps=8, out=tmp_path / "one"), text_file)
    both, alone = tmp_path / "both", tmp_path / "alone"
    begin(options(**changes, out=alone), text_file)

    def work(group: Ranks) -> None:
        begin(options(**changes, out=both), text_file, group)
        assert group.rank or resume(both).record.step == 4  # nothing to do, and nobody to wait for
        resume(alone, group, steps=8)

    assert together(work).codes == [0, 0]
    resume(both, steps=8)
    assert_close(both, tmp_path / "one")
    assert_close(alone, tmp_path / "one")


def test_who_is_killed_ends_all_and_the_run_goes_on(
    options: Options, text_file: Path, tmp_path: Path, together: Callable
) -> None:
    begin(options(steps=8, out=tmp_path / "one"), text_file)

    def work(group: Ranks) -> None:
        begin(options(steps=8), text_file, group, At(5, die) if group.rank else None)

    ended = together(work)
    assert ended.codes == [1, -signal.SIGKILL]
    out = tmp_path / "run"
    assert ended.said[0].startswith("a process of the training has ended or cannot be reached (")
    assert ended.said[0].endswith(
        f": the training stopped after update 5, and everything until update 5 is in {out / 'last'};"
        f" to go on: p2 train --resume --out {out}"
    )
    assert together(lambda group: resume(out, group)).codes == [0, 0]
    assert_close(out, tmp_path / "one")


@pytest.mark.parametrize("killed", [0, 1])
def test_states_that_died_are_those_of_the_last_save(
    options: Options,
    text_file: Path,
    tmp_path: Path,
    together: Callable,
    killed: int,
) -> None:
    """And without the first process nobody writes: another one says so."""
    changes = {"stateful": True, "steps": 8}
    begin(options(**changes, out=tmp_path / "one"), text_file)

    def work(group: Ranks) -> None:
        begin(options(**changes), text_file, group, At(5, die) if group.rank == killed else None)

    ended = together(work)
    assert ended.codes[killed] == -signal.SIGKILL
    assert ended.codes[1 - killed] == 1
    assert ended.said[killed] == ""
    found = "everything until update 2 is" if killed else "what had been saved is"
    folder = tmp_path / "run"
    assert f"stopped after update 5, and {found} in {folder / 'last'}; to go on" in ended.said[1 - killed]
    resume(folder)
    assert_close(folder, tmp_path / "one")


def test_a_signal_to_one_stops_all_after_the_same_update(
    options: Options, text_file: Path, tmp_path: Path, together: Callable
) -> None:
    """Twice, as torchrun does after a Ctrl-C; and a third one while the process says how it ended."""

    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    def work(group: Ranks) -> None:
        result = begin(options(steps=8), text_file, group, At(3, twice) if group.rank else None)
        os.kill(os.getpid(), signal.SIGINT if group.rank else signal.SIGUSR1)
        assert result.interrupted
        assert result.record.step == 3

    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    ended = together(work)
    signal.signal(signal.SIGUSR1, before)
    assert (ended.codes, ended.said) == ([0, 0], ["", ""])
    assert checkpoint.load(tmp_path / "run" / "last").record.step == 3


def test_what_all_know_is_said_once(
    options: Options, text_file: Path, tmp_path: Path, together: Callable
) -> None:
    def uneven(group: Ranks) -> None:
        begin(options(batch_size=5), text_file, group)

    def diverging(group: Ranks) -> None:
        begin(options(lr=1e38), text_file, group)

    def other_text(group: Ranks) -> None:
        if group.rank:
            text_file.with_name("other").write_text(text_file.read_text() + ".")
        begin(options(), text_file.with_name("other") if group.rank else text_file, group)

    def from_stdin(group: Ranks) -> None:
        begin(options(), Path("-"), group)

    for work, code, sentence in (
        (uneven, 2, "--batch-size 5 cannot be shared out evenly among 2 processes: it must be a multiple"),
        (diverging, 1, "training diverged at update 2 (loss "),
        (
            other_text,
            1,
            "the text is not the same in process 1 as in process 0: every machine must see the same",
        ),
        (from_stdin, 2, "several processes cannot read one standard input: put the text into a file"),
    ):
        ended = together(work)
        assert ended.codes == [code, code]
        assert ended.said[0].startswith(sentence)
        assert ended.said[1] == ""
        assert not (tmp_path / "run").exists()


def test_what_only_one_knows_is_said_by_that_one(
    options: Options, text_file: Path, tmp_path: Path, together: Callable
) -> None:
    missing = tmp_path / "nowhere.txt"
    ended = together(lambda group: begin(options(), missing if group.rank else text_file, group))
    assert ended.codes == [1, 1]
    assert ended.said[1].startswith("process 1 of 2: ")
    assert str(missing) in ended.said[1]
    assert ended.said[0].startswith("a process of the training has ended or cannot be reached")
    assert not (tmp_path / "run").exists()


def pretend(monkeypatch: pytest.MonkeyPatch, rank: str, size: str) -> None:
    """To be started by torchrun, with nobody at the port."""
    for name, value in zip(ranks._GIVEN, (rank, size, "127.0.0.1", "9"), strict=True):
        monkeypatch.setenv(name, value)


def test_without_the_others_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "SILENCE_SECONDS", 0.1)
    pretend(monkeypatch, "1", "2")
    with pytest.raises(P2Error, match="process 1 of 2 cannot reach the others"), joined():
        pass


def test_one_process_of_torchrun_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "0", "1")
    with joined() as group:
        assert group is ALONE


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("x", "2"), ("0", "0"), ("-1", "2"), ("0", "1e9")])
def test_an_environment_that_is_not_torchruns_is_refused(
    rank: str, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, rank, size)
    with pytest.raises(UsageError, match=f"RANK={rank} of WORLD_SIZE={size} is no process"), joined():
        pass


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto", Ranks(5, 6, (1, 2))) == torch.device("cuda", 1)
    assert choose_device("cuda", ALONE) == torch.device("cuda")
    assert choose_device("cpu", Ranks(5, 6, (3, 4))) == torch.device("cpu")
    with pytest.raises(BackendMissing, match="started 4 processes on a machine with 2 GPUs"):
        choose_device("auto", Ranks(5, 6, (3, 4)))


def test_torchrun_starts_the_module(
    text_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`python -m p2` under torchrun itself: the first process speaks, the others are quiet."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    launcher = ["--standalone", "--nproc-per-node", "2", "-m", "p2", "train", str(text_file)]
    words = "--hidden 8 --embedding 4 --seq-len 8 --batch-size 4 --steps 3 --device cpu --threads 1 --out"
    try:
        torchrun([*launcher, *words.split(), str(tmp_path / "run")])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    out, err = capfd.readouterr()
    assert out.count("4 windows of 8 an update, shared out among 2 processes") == 1
    assert out.count("done: 3 updates") == out.count("next: p2 export") == 1
    assert "p2:" not in err
    assert checkpoint.load(tmp_path / "run" / "last").record.step == 3
