"""How a training begins in a process: as one of Ray Train's workers, or alone in the driver's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import torch

from ray_trash.cluster.carry import carry
from ray_trash.cluster.environment import prepare_environment
from ray_trash.cluster.here import reserved_cpus
from ray_trash.cluster.shares import plan_reading, usable_cpus
from ray_trash.cluster.waiting import TASK_TIMEOUT_S, fetch
from ray_trash.dataset.scan import Decoded
from ray_trash.dataset.stream import MemoryPhotos, PhotoSource, StreamedPhotos
from ray_trash.errors import DivergedError
from ray_trash.model.precision import resolve_device, resolve_precision
from ray_trash.train.freed_memory import freed_memory_kept
from ray_trash.train.job import TrainJob
from ray_trash.train.loop import train
from ray_trash.train.worker import Worker


def train_worker(loop_config: dict[str, Any]) -> None:
    """Train as one of Ray Train's workers; an error of ours ends on the run's board.

    `loop_config` holds `job`, a `TrainJob`, `initial`, a Ray reference to the first weights by name, and `decoded`, as
    `TrainingPhotos` have it.
    """
    import ray.train
    import ray.train.torch

    prepare_environment()  # this process has that of a `ray start`, which may know no home
    job: TrainJob = loop_config["job"]
    if job.board.outcome().error is not None:
        return  # Trying again does not mend it.
    context = ray.train.get_context()
    worker = _build_worker(
        job,
        torch.device("cpu") if job.device == "cpu" else ray.train.torch.get_device(),
        rank=context.get_world_rank(),
        world=context.get_world_size(),
        local_rank=context.get_local_rank(),
        local_world=context.get_local_world_size(),
    )

    job.board.join(worker.rank, ray.get_runtime_context().get_node_id())

    def work() -> None:
        initial = fetch(loop_config["initial"], what="the first weights")
        with freed_memory_kept(), closing(_build_source(job, loop_config["decoded"], worker)) as source:
            is_over = train(job, initial, worker, source, ray.train.report)
        if not is_over and worker.is_first:
            job.board.stopped()

    outcome = carry(work)
    if outcome.error is not None:
        job.board.end(outcome)
    # All workers meet that one together; after any other there may be some that wait for this one, and Ray ends them
    # all when it fails.
    if worker.world > 1 and not isinstance(outcome.error, DivergedError):
        outcome.value()


def train_here(
    job: TrainJob,
    initial: Mapping[str, torch.Tensor],
    decoded: Decoded | None,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Train alone, in this process."""
    worker = _build_worker(job, resolve_device(job.device))
    with freed_memory_kept(), closing(_build_source(job, decoded, worker)) as source:
        train(job, initial, worker, source, report)


def _build_worker(
    job: TrainJob, device: torch.device, *, rank: int = 0, world: int = 1, local_rank: int = 0, local_world: int = 1
) -> Worker:
    # Ray sets one thread for a worker that reserves one CPU or less; the machine has more to give.
    torch.set_num_threads(max(1, usable_cpus() // (local_world * job.runs_per_machine)))
    # A step's shapes are those of the step before, or one photo less: a GPU's fastest kernels are worth looking for.
    torch.backends.cudnn.benchmark = device.type == "cuda"
    dtype, _ = resolve_precision(job.config.train.precision, device)
    return Worker(rank, world, device, dtype, local_rank, local_world)


def _build_source(job: TrainJob, decoded: Decoded | None, worker: Worker) -> PhotoSource:
    return build_source(job.root, decoded, worker.device, workers=worker.world * job.runs_at_once)


def build_source(root: str, decoded: Decoded | None, device: torch.device, *, workers: int = 1) -> PhotoSource:
    """Take photos from the decoded ones, or as a stream where there are none.

    So many workers share the cluster that reads for a stream, those of other runs included.
    """
    on_gpu = device.type == "cuda"
    if decoded is None:
        import ray

        resources, own_cpus = ray.cluster_resources(), reserved_cpus()
        return StreamedPhotos(root, plan_reading(resources, workers=workers, worker_cpus=own_cpus, on_gpus=on_gpu))
    # They may be on other machines, and where one has gone they are decoded anew.
    blocks = [fetch(block, what="the decoded photos", timeout_s=TASK_TIMEOUT_S) for block in decoded]
    return MemoryPhotos(blocks, n_threads=torch.get_num_threads() if on_gpu else 1)
