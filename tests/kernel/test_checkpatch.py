"""The kernel's own style checker, over all that is C in `kernel/udmabuf`.

With the options of the `.checkpatch.conf` that is nearest: `--strict`, in all of them.
"""

from collections import defaultdict
from pathlib import Path

import pytest

from lab import host_setup, kernel_tools, kernels

LOG = Path("build/checkpatch.log")
CONF = ".checkpatch.conf"

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.timeout(600),  # others may be compiling in the tree
    pytest.mark.skipif(not kernel_tools.can_run(), reason="mounts: needs root"),
    pytest.mark.skipif(
        "mmdebstrap" in host_setup.missing(),
        reason="needs mmdebstrap: python3 -m lab setup",
    ),
]


def test_checkpatch_has_nothing_to_say(tmp_path: Path) -> None:
    kernel = kernels.fetch("trixie")
    sources = [
        path
        for path in sorted(kernels.SOURCE.rglob("*.[ch]"))
        if not path.name.endswith(".mod.c")  # what Kbuild left
    ]
    by_conf = defaultdict(list)
    for path in sources:
        where = next(each for each in path.parents if (each / CONF).exists())
        by_conf[where].append(str(path.relative_to(where)))
    assert all("--strict\n" in (where / CONF).read_text() for where in by_conf)
    checkpatch = f"perl {kernel_tools.CHECKPATCH}"
    # It does find what there is to be found.
    script = "cd /tmp; echo 'int  wrong=1 ;' >wrong.c\n"
    script += f"if {checkpatch} --no-tree -f wrong.c; then exit 1; fi\n"
    for where, names in by_conf.items():
        script += f"cd /src/{where.relative_to(kernels.SOURCE)}\n"
        script += f"{checkpatch} -f {' '.join(names)}\n"
    LOG.parent.mkdir(exist_ok=True)
    LOG.unlink(missing_ok=True)

    kernel_tools.run(kernel, script, tmp_path, LOG)

    printed = LOG.read_text()
    clean = printed.count("total: 0 errors, 0 warnings, 0 checks, ")
    assert clean == len(sources) >= 20
