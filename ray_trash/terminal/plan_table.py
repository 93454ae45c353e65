"""What a run needs, on one screen, from the document that `plan` makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ray_trash.terminal.say import Terminal
from ray_trash.terminal.text import counted, gib, listed, minutes, printable


def print_plan(document: Mapping[str, Any], terminal: Terminal) -> None:
    """Print what is needed beside what there is, then where the time goes."""
    needs = Table(box=None, pad_edge=False, show_header=False)
    needs.add_column(style="bold", no_wrap=True)
    needs.add_column(overflow="fold")
    for what, said in _rows(document):
        needs.add_row(what, Text(printable(said)))
    times = Table(box=None, pad_edge=False, header_style="bold")
    times.add_column("time", no_wrap=True)
    times.add_column("", justify="right", no_wrap=True)
    found = document["estimate"]
    for part in found["parts"]:
        times.add_row(Text(printable(part["what"])), minutes(part["seconds"]))
    times.add_row("all of it, about", minutes(found["seconds"]))
    lines = []
    if found["at_most_s"] > found["at_least_s"]:
        lines.append(f"at least {minutes(found['at_least_s'])}, at most {minutes(found['at_most_s'])}")
    lines += [*found["limits"], *(f"warning: {warning}" for warning in document["warnings"])]
    terminal.show(Group(needs, Text(), times, *(Text(printable(line)) for line in lines)))


def _rows(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    there_is, photos, workers = document["there_is"], document["photos"], document["workers"]
    machines = there_is["machines"]
    total = {name: sum(machine[name] for machine in machines) for name in machines[0] if name != "address"}
    where = f"cluster {there_is['cluster']}" if there_is["cluster"] else "this machine"
    yield (
        "there is",
        f"{where}: {counted(len(machines), 'machine')}, {total['cpus']:g} CPUs, {total['gpus']:g} GPUs, "
        f"{gib(total['memory_bytes'])} memory, {gib(total['object_store_bytes'])} object store",
    )
    free = [f"{gib(there_is['storage_free_bytes'])} in {there_is['storage']}"] if there_is["storage_free_bytes"] else []
    if there_is["shared_memory_free_bytes"] is not None:
        free.append(f"{gib(there_is['shared_memory_free_bytes'])} in /dev/shm")
    yield "free", listed(free) or f"not known of {there_is['storage']}"
    if sweep := document["sweep"]:
        yield (
            "sweep",
            f"{counted(sweep['trials'], 'trial')} over {listed(sweep['keys'])}; {sweep['at_once']} at a time",
        )
    yield (
        "workers",
        f"{workers['workers']} on {workers['device']}, {workers['threads']} threads and "
        f"{gib(workers['memory_bytes_each'])} each; {workers['computes']}",
    )
    about = "about " if photos["about"] else ""
    encoded = "" if photos["encoded_bytes"] is None else f", {gib(photos['encoded_bytes'])}"
    yield (
        "photos",
        f"{counted(photos['files'], 'file')} of {counted(photos['classes'], 'class', 'classes')}{encoded}; {about}"
        f"{photos['train']:,} to train on, {photos['val']:,} to validate, {photos['test']:,} kept back",
    )
    share = photos["gpu_memory_share"]
    on_gpu = "" if share is None else f", and in a GPU's where they take at most {share:.0%} of what is free there"
    yield "decoded", f"{gib(photos['decoded_bytes'])}, {photos['kept']}{on_gpu}"
    activations = document["activations"]
    if activations["n_bytes"]:
        yield "activations", f"{gib(activations['n_bytes'])} on every machine that trains"
    elif activations["why_not"]:
        yield "activations", f"of the frozen stages are not kept: {activations['why_not']}"
    kept = document["checkpoints"]
    yield (
        "checkpoints",
        f"{gib(kept['bytes_each'])} each, {kept['kept_by_a_run']} kept by a run; at most {gib(kept['bytes'])}",
    )
    training = document["training"]
    yield (
        "training",
        f"{counted(training['epochs'], 'epoch')} of {counted(training['steps_per_epoch'], 'step')} of "
        f"{training['photos_per_step']} photos",
    )
    measured = document["measured"]
    pace = measured["paces"][0]
    yield (
        "measured",
        f"in {measured['took_s']:.0f} s: a step {_short(pace['step_s'])}, a validated photo "
        f"{_short(pace['validate_s'])}, a photo read {_short(measured['look_s'])}, a checkpoint "
        f"{_short(measured['checkpoint_s'])}",
    )


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
