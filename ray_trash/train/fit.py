"""One start of a run's workers by Ray Train."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import ray
from ray.train import RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchTrainer

# `ray.train.FailureConfig` is annotated as its predecessor, which knows no limit for the controller.
from ray.train.v2.api.config import FailureConfig

from ray_trash.cluster.capacity import WorkerPlan
from ray_trash.cluster.waiting import wait_in_thread
from ray_trash.dataset.scan import Decoded
from ray_trash.storage import Storage
from ray_trash.train.job import TrainJob
from ray_trash.train.process_group import ProcessGroup
from ray_trash.train.run_directory import RAY
from ray_trash.train.start import train_worker
from ray_trash.train.supervise import Fit

if TYPE_CHECKING:
    from torch import Tensor


def fit_with(
    job: TrainJob,
    run: Storage,
    decoded: Decoded | None,
    initial: Mapping[str, Tensor],
    callbacks: Sequence[UserCallback],
) -> Fit:
    """Return what trains with the workers of a plan, and waits for them.

    Args:
        job: What each worker is told.
        run: The run's directory.
        decoded: Of `TrainingPhotos`.
        initial: The weights to begin with, by name.
        callbacks: Of Ray Train.
    """
    weights = ray.put(dict(initial))

    def fit(plan: WorkerPlan, number: int, look: Callable[[], None]) -> None:
        # Ray's own record of a run is not written whole or not at all, and one that is cut short bars its name
        # for good. So each start has a name of its own there, and resume goes by our checkpoints alone.
        ray_files = run.child(RAY)
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={"job": job, "initial": weights, "decoded": decoded},
            scaling_config=ScalingConfig(
                num_workers=plan.workers,
                use_gpu=plan.device == "cuda",
                resources_per_worker=plan.resources_per_worker,
                # On CPUs a worker uses its whole machine.
                placement_strategy="PACK" if plan.device == "cuda" else "SPREAD",
            ),
            run_config=RunConfig(
                name=f"{job.attempt}-{number}",
                storage_path=ray_files.path,
                storage_filesystem=ray_files.filesystem,
                failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
                callbacks=cast(Any, list(callbacks)),  # annotated as the callbacks of Ray Tune
            ),
            torch_config=ProcessGroup(),
        )
        wait_in_thread(trainer.fit, name="ray-train", look=look)

    return fit
