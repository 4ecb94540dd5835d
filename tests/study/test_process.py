"""When this process began."""

import subprocess
import sys
import time

WHEN = "import time; from mobileone_core.study.process import process_start; print(time.time() - process_start())"


def test_a_process_knows_when_it_was_started():
    began = time.time()
    age = float(subprocess.run([sys.executable, "-c", WHEN], capture_output=True, check=True, text=True).stdout)
    assert 0.02 < age <= time.time() - began + 0.05
