"""Start the processes of a run with Accelerate's launcher."""

import logging
import os
import signal
import sys
from collections.abc import Sequence

import torch
from accelerate.commands.launch import launch_command, launch_command_parser
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from kdx.commands.shared import FAILED, STOPPED

_DEFAULTS = ("--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no")


def launch(processes: int, arguments: Sequence[str]) -> None:
    """Run `kdx distill ARGUMENTS` in 2 or more processes, with gloo if there is no GPU.

    A signal is passed on to all of them. Exits with the code of the process that failed first,
    after a signal with 3; a process that was killed counts as failed (1).
    """
    if torch.accelerator.current_accelerator(check_available=True) is None:
        os.environ["ACCELERATE_USE_CPU"] = "true"  # the option --cpu would start one process
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the launcher's default, which it warns about
    if not os.environ.get("KDX_DEBUG"):  # the launcher repeats what each process prints itself
        logging.disable(logging.ERROR)
    options = ["--multi_gpu", f"--num_processes={processes}", "--main_process_port=0", *_DEFAULTS]
    command = [*options, "-m", "kdx", "distill", *arguments]
    try:
        launch_command(launch_command_parser().parse_args(command))
    except SignalException:
        sys.exit(STOPPED)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            print(f"error: the process of rank {rank} was killed by {name}", file=sys.stderr)
            sys.exit(FAILED)
        sys.exit(failure.exitcode)
