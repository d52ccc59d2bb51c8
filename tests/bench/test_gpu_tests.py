"""The tests that the benchmark of a GPU runs, and what it makes of their output."""

from bench.gpu_tests import FOLDER, TESTS, command, outcome


def test_a_gpu_gets_all_files_with_the_mark_the_processor_its_folder() -> None:
    there, here = command("cuda"), command("cpu")
    assert str(TESTS / "training" / "test_host_waits.py") in there
    assert str(FOLDER) in there
    assert not [word for word in there if word.startswith(f"{FOLDER}/")]  # they would run twice
    assert here[-1] == str(FOLDER)
    assert here[-2] == "not gpu and not slow"


def test_tests_that_were_cut_off_are_counted_by_what_was_printed() -> None:
    log = (
        "tests/engine/gpu/test_a.py::test_x[cuda-t5 kept] PASSED     [ 33%]\n"
        "tests/engine/gpu/test_a.py::test_y[cuda] FAILED     [ 66%]\n"
        "tests/engine/gpu/test_a.py::test_z[2] SKIPPED (NOT TESTED ON 2 GPU(S): torch finds 1 here) [ 90%]\n"
    )
    assert outcome(log) == "1 passed, 1 failed, 1 skipped, the rest not in time: test_y[cuda]"
    assert outcome(f"{log}==== 1 failed, 1 passed, 1 skipped in 3.21s ====\n").endswith("1 skipped: test_y[cuda]")
    assert outcome("collecting ...") == ""
