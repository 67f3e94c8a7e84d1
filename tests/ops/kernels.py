"""What is wrong with the kernels of one library, or with the ops where there is none.

    python -m tests.ops.kernels [LIBRARY]

prints {kernel: ""} as JSON, or in the place of "" the first case of the table that it fails.
"""

import json
import sys

import torch


def refuse(path: str) -> None:
    raise OSError("left out by the test")


def main(library: str = "") -> None:
    torch.set_num_threads(1)
    load = torch.ops.load_library
    if not library:
        torch.ops.load_library = refuse

    from pgvae.ops import native
    from tests.ops.cases import OPS

    if library:
        load(library)  # in the place of the kernels that are there
        native._PROBLEMS["cpu"] = ""
        names = [name for name, op in OPS.items() if op.kernel]
    else:
        names = [name for name, op in OPS.items() if len(op.impls) > 1]
    emulated = "emulated" in library
    found = {}
    for name in names:
        kernel = OPS[name].kernel
        if not (emulated and OPS[name].is_for_cpus):
            found[kernel] = found.get(kernel) or problem_of(name, bool(library), emulated)
    print(json.dumps(found))


def problem_of(name: str, native: bool, emulated: bool) -> str:
    """What an op does wrong, in words, or "". The emulator is slow, and has CUDA's dtypes alone."""
    from tests.ops.cases import OPS, check_parts, check_shapes

    op = OPS[name]
    try:
        for dtype in op.dtypes:
            for layout in op.layouts()[: 2 if emulated else None]:
                most = 65 if op.widens else 1024 if layout == "channels_last" else 16
                check_shapes(
                    *(name, dtype, layout, "cpu", "native" if native else "auto"),
                    lambda shape, most=most: not emulated or shape[not op.widens] <= most,
                )
            if native:
                check_parts(name, dtype)
            if emulated and dtype == torch.bfloat16:
                break
    except (AssertionError, RuntimeError) as problem:
        return str(problem) or type(problem).__name__
    return ""


if __name__ == "__main__":
    main(*sys.argv[1:])
