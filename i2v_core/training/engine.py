"""One training on Hugging Face `accelerate`: a process on the CPU or a GPU, many of them, or many machines alike."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..data.clips import ClipBatch, ClipData, Items, LatentEncoder, collate, encode_clips
from ..files import StrPath
from ..model.video_unet import VideoEncoder
from .checkpoint_files import checkpoint_path, clear_leftovers, find_checkpoint, numbered, prune, write_checkpoint
from .config import TrainingConfig, ValidationConfig
from .config_file import write_config
from .log import Place, Progress, ProgressFile, State, append_row, forget_rows_after, peak_memory, whole_memory
from .memory import LiveBytes
from .metadata import result_metadata
from .objective import ClipLosses, Objective
from .optimization import learning_rates, make_accelerator, make_optimizer, set_rates, trained_parameters
from .plan import Plan, advice, estimate_memory
from .preview import write_preview
from .probe import Probe
from .state import Average, RunState, whole
from .stop import Stop, TrainingCanceled

logger = logging.getLogger("i2v_core.training")

OnStep = Callable[[Progress], None]
OnPlan = Callable[[Plan], None]
WriteWeights = Callable[[StrPath, Mapping[str, Tensor], Mapping[str, str]], None]


@dataclass(frozen=True)
class TrainingTask:
    """A training task: networks, objective, data and how results are written.

    Attributes:
        name: beginning of the result's files.
        objective: the networks; what of them requires a gradient is trained.
        data: clips without end; `autoencoder` brings them to latents.
        write: (path, weights by "network.name", metadata) writes a file for users.
        rates: learning rates by network, where the configuration names none.
        companions: networks beside the objective, frozen, which move to the training's device.
        preview: a clip `c t h w` in [-1, 1] of the weights as they are; None for none.
        base: what it begins with, in words for the plan.
        metadata: of every file.
    """

    name: str
    objective: Objective
    data: ClipData
    autoencoder: LatentEncoder
    write: WriteWeights
    rates: Mapping[str, float] = field(default_factory=dict)
    companions: Sequence[nn.Module] = ()
    preview: Callable[[ValidationConfig], Tensor] | None = None
    base: str = "nothing"
    metadata: Mapping[str, str] = field(default_factory=dict)
    timesteps: int = 1000


def train(
    task: TrainingTask, config: TrainingConfig, on_step: OnStep | None = None, on_plan: OnPlan | None = None
) -> Path:
    """Train to the last step, going on where an earlier run was interrupted; return the file for users.

    Args:
        on_step: called after every step, in every process; `TrainingCanceled` from it, or SIGTERM and SIGINT, end the
            run with a checkpoint, any other exception where it is. on_plan: called before the first step.

    Raises:
        ValueError: the configuration does not fit the task.
        OSError: the disk is full or refuses; earlier checkpoints are whole.
        TrainingCanceled: the run was ended, and can be resumed.
    """
    engine = Engine(task, config)
    engine.clear()
    engine.resume()
    engine.prepare()
    if on_plan is not None:
        on_plan(engine.plan())
    return engine.run(on_step)


def plan(task: TrainingTask, config: TrainingConfig) -> Plan:
    """Plan of a training, with time and memory measured over a few steps; nothing is written."""
    engine = Engine(task, config)
    engine.resume()
    return engine.plan()


class Engine:
    """A task and its configuration under `accelerate`, from the step where it is."""

    def __init__(self, task: TrainingTask, config: TrainingConfig) -> None:
        self.task, self.config, self.folder = task, config, Path(config.train.output_dir)
        self.accelerator = make_accelerator(config)
        for companion in task.companions:
            companion.to(self.accelerator.device)
        if config.train.gradient_checkpointing:
            for module in task.objective.modules():
                if isinstance(module, VideoEncoder):
                    module.gradient_checkpointing = True
        self.memory = estimate_memory(task.objective, config, task.companions)
        self.rates = learning_rates(task.objective, config.optim, task.rates)
        trained = trained_parameters(task.objective)
        groups = [{"params": parameters, "lr": self.rates[name]} for name, parameters in trained.items()]
        self.model, self.optimizer = self.accelerator.prepare(
            task.objective.train(), make_optimizer(config.optim, groups)
        )
        named = self.accelerator.unwrap_model(self.model).named_parameters()
        self.trained = {name: parameter for name, parameter in named if parameter.requires_grad}
        decay = config.train.ema.decay
        self.average = Average(list(self.trained.values()), decay) if decay else None
        self.place, self._saved = Place(), 0
        optimizer, scaler = self.optimizer.optimizer, self.accelerator.scaler
        self.state = RunState(self.trained, optimizer, self.average, self.place, scaler)
        self.progress = Progress(task.name, "preparing", 0, config.train.max_train_steps)
        self.progress_file = ProgressFile(self.folder / "progress.json")
        self.stop = Stop(self.accelerator)
        batch, said = config.train.train_batch_size, config.logging
        self.probe = Probe(
            task.objective.loss, task.data, task.autoencoder, said.probe_clips, batch, task.timesteps,
            said.probe_unseen,
        )  # fmt: skip

    def clear(self) -> None:
        """Clear the run's folder of what a killed run left; no other training may be in it."""
        if self.accelerator.is_main_process:
            clear_leftovers(self.folder)
        self.accelerator.wait_for_everyone()

    def prepare(self) -> None:
        """Make the run's folder, and say there what is going to happen."""
        if self.accelerator.is_main_process:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_config(self.config, self.folder / "config.toml")
        self._tell("preparing")

    def resume(self) -> None:
        """Go on from a checkpoint, if the configuration names one and it is there."""
        found = find_checkpoint(self.folder, self.config.train.resume_from_checkpoint)
        if found is not None:
            self.state.restore(found)
            self._saved = self.place.step
            logger.info("going on from step %d", self._saved)

    def plan(self) -> Plan:
        """The plan of the run; a few steps are measured, and leave no trace."""
        config, seconds = self.config, self._measured(self.config.logging.plan_steps)
        trained = {
            name: sum(p.numel() for p in group) for name, group in trained_parameters(self.task.objective).items()
        }
        return Plan(
            name=self.task.name,
            base=self.task.base,
            data=self.task.data.summary(),
            trained={name: (count, self.rates[name]) for name, count in trained.items()},
            frozen=sum(p.numel() for p in self.task.objective.parameters()) - sum(trained.values()),
            memory=self.memory,
            step=self.place.step,
            steps=config.train.max_train_steps,
            processes=self.accelerator.num_processes,
            batch=config.train.train_batch_size,
            accumulation=config.train.gradient_accumulation_steps,
            seconds_per_step=seconds,
            peak_memory=None if seconds is None else peak_memory(self.accelerator.device),
            gpu=whole_memory(self.accelerator.device),
            lighter=advice(config),
        )

    def run(self, on_step: OnStep | None = None) -> Path:
        """Train from the present step to the last one; see `train`."""
        if self.accelerator.is_main_process:
            forget_rows_after(self.folder / "log.jsonl", self.place.step)
        self._export_missing()
        self._prune()
        if self.config.logging.report_to == "tensorboard":
            self.accelerator.init_trackers("tensorboard")
        with self.stop.listening():  # to the end: a second signal must not break what the first one has written
            try:
                self._steps(on_step)
                return self._finish()
            except TrainingCanceled:
                self._save()
                self.accelerator.wait_for_everyone()  # gloo's own end could wait for us, and we for it
                self._tell("canceled")
                raise
            except Exception as error:
                with suppress(OSError):  # a full disk may have no place for this either
                    self._tell("failed", message=str(error))
                raise
            finally:
                for tracker in self.accelerator.trackers:  # the processes themselves may have another run before them
                    tracker.finish()

    def _steps(self, on_step: OnStep | None) -> None:
        self._tell("training")
        losses, start = list[ClipLosses](), time.monotonic()
        for raw in self.loader():
            with self.accelerator.accumulate(self.model):
                losses.append(self.backward(encode_clips(raw.to(self.accelerator.device), self.task.autoencoder)))
                norm = self._optimize()
            if not self.accelerator.sync_gradients:
                continue
            self._count(losses, time.monotonic() - start)
            self._after_step(norm)
            losses, start = [], time.monotonic()
            self._tell("training")
            self.stop.check(lambda: None if on_step is None else on_step(self.progress))

    def backward(self, batch: ClipBatch) -> ClipLosses:
        """Add the gradients of a batch to those that are there; of many processes, their mean."""
        losses: ClipLosses = self.model(batch)
        self.accelerator.backward(losses.weighted.mean())
        return losses

    def _optimize(self) -> float:
        """Step, if the gradients are complete; return their norm."""
        norm = math.nan
        if self.accelerator.sync_gradients:
            set_rates(self.optimizer, list(self.rates.values()), self.place.step, self.config)
            clipped = self.accelerator.clip_grad_norm_(self.trained.values(), self.config.optim.max_grad_norm)
            norm = whole(clipped).item()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None and self.accelerator.sync_gradients:
            self.average.update()
        return norm

    def _count(self, losses: list[ClipLosses], seconds: float) -> None:
        """Bring the losses of all processes into the place and the log."""
        columns = torch.stack(
            [torch.cat(column).detach().float().to(self.accelerator.device) for column in zip(*losses, strict=True)]
        )
        everyone = self.accelerator.gather(columns.T.contiguous())
        gathered = ClipLosses(*everyone.cpu().T)
        self.place.window.add(gathered, self.task.timesteps)
        self.place.window.seconds += seconds
        self.place.seconds += seconds
        self.place.step += 1
        self.place.items += len(gathered.plain)
        self.progress = replace(self.progress, loss=gathered.weighted.mean().item())

    def _after_step(self, norm: float) -> None:
        step, config = self.place.step, self.config
        if step % config.logging.logging_steps == 0:
            self._log(norm)
        validation = config.validation.validation_steps
        if validation and step % validation == 0:
            self._preview()
        if step % config.train.checkpointing_steps == 0:
            self._save()

    def _log(self, norm: float) -> None:
        place, memory = self.place, peak_memory(self.accelerator.device)
        row = {"step": place.step, **place.window.row(), "gradient_norm": norm, "seconds": place.seconds}
        row |= {
            f"rate_{name}": group["lr"] for name, group in zip(self.rates, self.optimizer.param_groups, strict=True)
        }
        row |= {} if memory is None else {"peak_memory_mib": memory / 2**20}
        row |= self._probe()
        place.window = type(place.window)()
        self.accelerator.log({name: value for name, value in row.items() if name != "step"}, step=place.step)
        if self.accelerator.is_main_process:
            append_row(self.folder / "log.jsonl", row)
            logger.info("step %d: loss %.5f, %.0f s", place.step, row["loss"], place.seconds)

    def _probe(self) -> dict[str, float]:
        """Probe the averaged weights for the worth of words and picture, at the steps that the configuration names."""
        steps = self.config.logging.probe_steps
        if not steps or self.place.step % steps:
            return {}
        with self._averaged():
            return self.model(call=lambda: self.probe.row(self.accelerator.device))

    def _preview(self) -> None:
        """A preview of the averaged weights; of sharded ones every process has a part, else one process is enough."""
        if self.task.preview is None:
            return
        validation, preview = self.config.validation, self.task.preview
        path = self.folder / "previews" / f"{self.task.name}-{self.place.step:06d}.mp4"
        if self.accelerator.is_fsdp2 or self.accelerator.is_main_process:
            model = self.model if self.accelerator.is_fsdp2 else self.task.objective
            with self._averaged():
                clip = model(call=lambda: preview(validation))
            if self.accelerator.is_main_process:
                write_preview(clip, path, validation.fps)
        self.accelerator.wait_for_everyone()
        self._tell("training", preview=str(path))

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self.average is None else self.average.in_place()

    def _save(self) -> None:
        """Write a checkpoint and the weights for users, once for each step."""
        if self.place.step == self._saved:
            return
        contents = self.state.contents(keep=self.accelerator.is_main_process)
        if self.accelerator.is_main_process:
            write_checkpoint(contents, self.folder, self.place.step)
        self.accelerator.wait_for_everyone()
        self._saved = self.place.step
        self._export_numbered()
        self._prune()

    def _prune(self) -> None:
        if self.accelerator.is_main_process:
            prune(self.folder, self.task.name, self.config.train.checkpoints_total_limit)

    def _export_numbered(self) -> None:
        """Write the weights of this step for users, and their average."""
        plain, averaged = numbered(self.folder, self.task.name, self.place.step)
        self._export(plain, average=False)
        if self.average is not None:
            self._export(averaged, average=True)

    def _export_missing(self) -> None:
        """Write what a run that was killed right behind its checkpoint could not write any more."""
        checkpoint = checkpoint_path(self.folder, self.place.step)
        last = numbered(self.folder, self.task.name, self.place.step)[self.average is not None]
        if checkpoint.exists() and not last.exists():
            self._export_numbered()

    def _finish(self) -> Path:
        self._save()
        path = self.folder / f"{self.task.name}.safetensors"
        self._export(path, average=self.average is not None)
        self._tell("done", result=str(path))
        return path

    def _export(self, path: Path, *, average: bool) -> None:
        """Write the weights as they are, or averaged, for users."""
        state = {name: whole(tensor) for name, tensor in self.accelerator.get_state_dict(self.model).items()}
        if average and self.average is not None:
            state |= {name: whole(tensor) for name, tensor in zip(self.trained, self.average.tensors, strict=True)}
        if self.accelerator.is_main_process:
            weights = {name.removeprefix("networks."): tensor for name, tensor in state.items()}
            said = result_metadata(self.config, self.place, self.task.data, averaged=average)
            self.task.write(path, weights, {**self.task.metadata, **said})
        self.accelerator.wait_for_everyone()

    def _tell(self, state: State, **news: Any) -> None:
        place = self.place
        self.progress = replace(self.progress, state=state, step=place.step, seconds=place.seconds, **news)
        if self.accelerator.is_main_process:
            self.progress_file.write(self.progress)

    def loader(self) -> DataLoader[Any]:
        """The clips of the steps that are left, each process its share."""
        train = self.config.train
        step = train.train_batch_size * self.accelerator.num_processes * train.gradient_accumulation_steps
        items = range(self.place.items, self.place.items + (train.max_train_steps - self.place.step) * step)
        loader = DataLoader(
            Items(self.task.data),
            batch_size=train.train_batch_size,
            sampler=items,
            collate_fn=collate,
            num_workers=train.dataloader_num_workers,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare_data_loader(loader)
        return prepared

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count what the tensors of a step take; raises ValueError with advice if they have no place on the GPU."""
        try:
            with LiveBytes() as count:
                yield
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"one step has no place in the memory of this GPU ({error}). Lighter: {advice(self.config)}"
            ) from error
        self.memory = replace(self.memory, activations=max(0, count.peak - self.memory.gradients))

    def _measured(self, steps: int) -> float | None:
        """Seconds of a step, measured over some forward and backward passes that change nothing."""
        if not steps or self.place.step >= self.config.train.max_train_steps:
            return None
        train, data = self.config.train, Items(self.task.data)
        first = self.place.items + self.accelerator.process_index * train.train_batch_size
        start = 0.0
        for number in range(steps + 1):
            if number == 1:  # the first one warms up
                start = time.monotonic()
            raw = collate([data[first + i] for i in range(train.train_batch_size)]).to(self.accelerator.device)
            # Sharded weights are no plain tensors, whose bytes could be counted.
            counts = number == 0 and not self.accelerator.is_fsdp2
            with self._counted() if counts else nullcontext(), self.accelerator.no_sync(self.model):
                self.backward(encode_clips(raw, self.task.autoencoder)).plain.sum().item()
        for parameter in self.trained.values():
            parameter.grad = None
        return (time.monotonic() - start) / steps * train.gradient_accumulation_steps
