"""--exact: no convolution by Winograd's algorithm."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "models"))
from models import heddle  # noqa: E402

CONV = ["conv", "--shape", "ci=32,h=12,co=32,k=3,p=1", "--threads", "1"]


def bench(*flags):
    return json.loads(heddle("bench", *CONV, "--seconds", "0.02", "--json", *flags, check=False).stdout)


def test_winograd_is_chosen_and_may_pass_the_peak():
    timed = bench()
    assert timed["schedule"].startswith("family conv_winograd")
    assert timed["valid"]


def test_exact_keeps_to_plain_sums():
    assert bench("--exact")["schedule"].startswith("family conv_direct")


def test_a_schedule_of_another_form_is_refused_with_what_it_needs(tmp_path):
    schedule = tmp_path / "wrong.sched"
    schedule.write_text("variant winograd4\n")
    done = heddle("bench", *CONV, "--implementation", schedule, check=False)
    assert done.returncode == 2
    assert "pack w winograd4" in done.stderr
