"""Fuzzing of every reader and operator; ``python tests/fuzz/campaign.py --seconds 60`` gives each a minute.

atheris chooses the inputs by the coverage of the package's Python. Each target runs in a process of its own,
so that a crash of compiled code is a finding, as are an exception other than UserError, 10 seconds for one
input, and 1 GiB more memory than at the start. What was found lies in tests/fuzz/findings/TARGET/, and stays
there: tests/fuzz/test_fuzz.py tries it again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

# It prints a line for each module.
with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["infogan_fast"]):
    from fuzz.readers import FOLDER, IN_MEMORY, READERS
    from fuzz.structures import STRUCTURES

from infogan_fast.config import OPTIONS
from infogan_fast.errors import UserError

FINDINGS = Path(__file__).parent / "findings"
_HANG_SECONDS = 10
_MORE_MEMORY = 1024  # MiB
_OWN_MEMORY = 4096  # of hypothesis under atheris, which keeps about 1 MiB an example


def target(name: str) -> tuple[Callable[[bytes], object], list[bytes]]:
    """What one input is given to, and inputs to begin from."""
    if name in STRUCTURES:
        return STRUCTURES[name].hypothesis.fuzz_one_input, [bytes(range(256)) * 8]  # type: ignore[attr-defined]
    read, first = READERS[name]

    def run(data: bytes) -> None:
        with contextlib.suppress(UserError):
            read(data)

    return run, first


def _dictionary() -> str:
    """Words that no chance would spell, as libFuzzer reads them."""
    numbers = ["nan", "inf", "-1", "1e999", "9" * 30, "0x1", "1_0", "\u00b2", "\u0663", "-0", "2147483648"]
    words = [
        "noise=",
        "cat=",
        "uniform=",
        "normal=",
        "bernoulli=",
        ":uniform",
        "rotation=",
        "flip=",
        "c1=",
        "null",
    ]
    flags = [declared.flag for declared in OPTIONS.values()]
    keys = [f'"{name}": ' for name in (*OPTIONS, "step", "format", "settings", "data", "seeds")]
    lines = []
    for word in numbers + words + flags + keys:
        lines.append('"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"')
    return "\n".join(lines) + "\n"


def _fuzz(name: str, arguments: list[str]) -> None:
    """Fuzz in this process, which ends here."""
    run, first = target(name)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    with tempfile.TemporaryDirectory() as corpus, tempfile.NamedTemporaryFile("w") as words:
        words.write(_dictionary())
        words.flush()
        for i, data in enumerate(first):
            Path(corpus, str(i)).write_bytes(data)
        for path in (FINDINGS / name).glob("*"):
            Path(corpus, path.name).write_bytes(path.read_bytes())
        more = _MORE_MEMORY + (_OWN_MEMORY if name in STRUCTURES else 0)
        longest = 1 << 14 if name in STRUCTURES else max(1 << 12, 2 * max(map(len, first)))
        flags = [
            *(f"-timeout={_HANG_SECONDS}", f"-rss_limit_mb={memory + more}", f"-max_len={longest}"),
            *(f"-artifact_prefix={FINDINGS / name}/", "-print_final_stats=1", f"-dict={words.name}"),
            *(*arguments, corpus),
        ]
        atheris.Setup([name, *flags], run)
        atheris.Fuzz()


def fuzz(name: str, log: Path, *, seconds: int = 0, inputs: int = 0, seed: int = 0) -> tuple[int, int]:
    """Fuzz a target in a new process.

    Args:
        log: where its output goes.
        seconds, inputs: after which it ends; 0 for no limit.
        seed: of the inputs; 0 for a new one.

    Returns:
        How many inputs it tried, and its exit status, 0 unless something was found.
    """
    (FINDINGS / name).mkdir(parents=True, exist_ok=True)
    limits = [f"-{flag}={value}" for flag, value in (("max_total_time", seconds), ("seed", seed)) if value]
    limits += [f"-atheris_runs={inputs}"] if inputs else []
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        os.environ[FOLDER] = folder
        status = _in_child(name, log, limits)
    with contextlib.suppress(OSError):  # nothing was found
        (FINDINGS / name).rmdir()
        FINDINGS.rmdir()
    found = re.findall(r"number_of_executed_units: (\d+)|Done (\d+) in", log.read_text(errors="replace"))
    return max((int(a or b) for a, b in found), default=0), status


def _in_child(name: str, log: Path, limits: list[str]) -> int:
    process = os.fork()
    if process == 0:
        status = 70
        try:
            with open(log, "w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            _fuzz(name, limits)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 70
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitpid(process, 0)[1]


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz the targets in turn; the exit status is 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [*READERS, *STRUCTURES]
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--seconds", type=int, default=0, help="for each target")
    parser.add_argument("--inputs", type=int, default=0, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if unknown := set(args.targets) - set(names):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    if not (args.seconds or args.inputs):
        parser.error("give --seconds or --inputs")
    total, found = 0, 0
    for name in args.targets or names:
        with tempfile.NamedTemporaryFile(suffix=".log") as log:
            tried, status = fuzz(
                name, Path(log.name), seconds=args.seconds, inputs=args.inputs, seed=args.seed
            )
            print(f"{name:20} {tried:10,} inputs{', FOUND:' if status else ''}", flush=True)
            if status:
                found += 1
                print(Path(log.name).read_text(errors="replace")[-6000:])
        total += tried
    print(f"{total:,} inputs, {found} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
