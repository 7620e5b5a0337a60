"""How fast Limbeck is, each figure beside a peer that does the same work in the same run.

python -m benchmarks.speed                                          # all of it, about five minutes
python -m benchmarks.speed --sections distillation --accumulation 2
python -m benchmarks.speed --sections distillation --devices 2      # forced host devices
"""

import argparse
import json
import os
import pathlib
from typing import Any

from ._machine import RESULTS, circumstances, write


SECTIONS = ("source", "distillation", "evaluation")


def measure(sections: tuple[str, ...], accumulation: int, steps_per_call: int, pairs: int) -> dict[str, Any]:
    """The figures of the sections asked for."""
    from . import _speed_distillation, _speed_evaluation, _speed_source

    result: dict[str, Any] = {}
    if "source" in sections:
        result["source"] = _speed_source.measure()
    if "distillation" in sections:
        peak = _speed_distillation.matmul_peak()
        sizes = {
            f"d{width}": _speed_distillation.measure(width, pairs, accumulation, steps_per_call)
            for width in _speed_distillation.SIZES
        }
        for size in sizes.values():
            size["share_of_matmul_peak"] = round(size["gflops"] / peak, 3)
        result["distillation"] = {"matmul_peak_gflops": round(peak, 1), **sizes}
    if "evaluation" in sections:
        result["evaluation"] = _speed_evaluation.measure()
    return result


def rows(result: dict[str, Any]) -> list[tuple[str, int, str, int, float]]:
    """(what, our figure, the peer, its figure, ratio) of every measurement."""
    table = []
    if source := result.get("source"):
        peer = ("stable-baselines3 A2C", source["stable_baselines3"])
        table.append(("A2C, environment steps/s", source["ours_one_learner"], *peer, source["ratio"]))
        many = (source["ours_many_learners"], *peer, source["ratio_many_learners"])
        table.append(("A2C, several learners, steps/s", *many))
    for name, size in result.get("distillation", {}).items():
        if isinstance(size, dict):
            ours, peer = size["tokens_per_second"], size["torch_tokens_per_second"]
            table.append((f"distillation {name}, tokens/s", ours, "PyTorch GPT", peer, size["ratio"]))
    if played := result.get("evaluation"):
        ours, peer = played["steps_per_second"], played["recomputing_steps_per_second"]
        table.append(("evaluation, environment steps/s", ours, "recomputed context", peer, played["ratio"]))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=pathlib.Path, default=RESULTS / "speed.json", help="where results go")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument(
        "--accumulation", type=int, default=16, help="parts of a batch, on our side; the experiments use 16"
    )
    parser.add_argument(
        "--steps-per-call", type=int, default=10, help="updates per compiled call, on our side"
    )
    parser.add_argument("--devices", type=int, default=1, help="forced host devices that share our batches")
    parser.add_argument("--pairs", type=int, default=3, help="turns of each side of distillation")
    arguments = parser.parse_args()
    if arguments.devices > 1:
        # Read when JAX first looks for devices, which no import of ours does.
        flag = f"--xla_force_host_platform_device_count={arguments.devices}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    about = circumstances("speed")
    result = measure(
        tuple(arguments.sections), arguments.accumulation, arguments.steps_per_call, arguments.pairs
    )
    print(f"{'':34}{'Limbeck':>10}  {'peer':<22}{'':>10}{'ratio':>8}")
    for what, ours, peer, theirs, ratio in rows(result):
        print(f"{what:34}{ours:>10,}  {peer:<22}{theirs:>10,}{ratio:>8.2f}")
    for name, size in result.get("distillation", {}).items():
        if isinstance(size, dict):
            share, peak = size["share_of_matmul_peak"], result["distillation"]["matmul_peak_gflops"]
            print(
                f"distillation {name}: {size['gflops']} GFLOP/s, {share:.1%} of the measured {peak} GFLOP/s"
            )
    print(json.dumps(about))
    write(arguments.json, result | about)


if __name__ == "__main__":
    main()
