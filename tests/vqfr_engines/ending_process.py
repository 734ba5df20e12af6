"""A process that ends as it is asked to; `test_selftest.py` starts it."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from vqfr_engines.own_process import answer_request


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    sys.stderr.write("first words\n\nlast words  \n")
    sys.stderr.flush()
    match asked["how"]:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit" | "nothing":
            os._exit(7 if asked["how"] == "exit" else 0)
        case "hang":
            time.sleep(60)
    return {"asked": asked}


if __name__ == "__main__":
    answer_request(answer)
    if "then crash" in Path(sys.argv[1]).read_text(encoding="utf-8"):
        os.kill(os.getpid(), signal.SIGSEGV)
