"""What the commands on clusters do."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_trash.commands import Ended
from ray_trash.errors import ClusterError, ConfigError

if TYPE_CHECKING:
    from ray_trash.terminal.say import Terminal


def submit(options: argparse.Namespace, terminal: Terminal) -> Ended | dict[str, Any] | str:
    """Run another command as a job on a cluster, and end as it ends."""
    words = options.job[1:] if options.job[:1] == ["--"] else options.job
    if not words:
        raise ConfigError("submit: name the command to run, such as `submit train CONFIG`")
    if words[0] == "submit":
        raise ConfigError("submit: a job that submits itself would wait for ever; name the command that does the work")
    root = Path(options.working_dir).absolute()
    if not root.is_dir():
        raise ConfigError(f"--working-dir {options.working_dir}: no such folder")
    from ray_trash.cluster.job_command import understand

    # What is wrong with the command is said before anything is asked of the cluster.
    command = understand(words, options.parse(words), root)
    for warning in command.warnings:
        terminal.say(f"warning: {warning}")
    from ray_trash.cluster.jobs import Jobs, job_address
    from ray_trash.cluster.package import choose_files
    from ray_trash.cluster.submit import Outcome, follow_job, start_job, way_on

    address = job_address(options.address)
    package = choose_files(root, needed=command.needed, data=command.data)
    for path, pattern in package.against_ignore.items():
        terminal.say(f"{path}: sent, as the command names it, though {pattern} hides it")
    jobs = Jobs.at(address)
    job_id = start_job(jobs, command.words, package, terminal=terminal)
    if options.detach:
        terminal.say(way_on(address, job_id))
        started = Outcome(job_id, address, "submitted", 0)
        return started.document() if options.json else f"{job_id}\n"
    outcome = follow_job(jobs, job_id, terminal=terminal)
    how = "" if outcome.status == "succeeded" else f" with exit code {outcome.exit_code}: {shlex.join(words)}"
    terminal.say(f"job {job_id} {outcome.status}{how}")
    return Ended(outcome.document(), outcome.exit_code)


def doctor(options: argparse.Namespace, terminal: Terminal) -> Ended:
    """Check whether this machine or a cluster is able."""
    from ray_trash.doctor.run import examine
    from ray_trash.terminal.findings import print_finding, print_sum

    findings = []
    for finding in map(asdict, examine(options.storage)):
        print_finding(finding, terminal)
        findings.append(finding)
    print_sum(findings, terminal)
    able = all(finding["status"] != "problem" for finding in findings)
    return Ended({"able": able, "findings": findings}, 0 if able else ClusterError.exit_code)
