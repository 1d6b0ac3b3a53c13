"""The training loop: schedule, evaluation after each epoch, checkpoints, signals. Every worker of a
job runs it alike.

From Python, with callbacks of Keras:

    train(strategy, model, optimizer, dataset, pixels, Plan(epochs=10), "models/mine",
          callbacks=[keras.callbacks.EarlyStopping("val_loss", patience=3)])
"""

import dataclasses
import functools
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn

import keras
import tensorflow as tf

from alexnet_tf import console
from alexnet_tf.data import pipeline
from alexnet_tf.data.bad_pictures import BadPictures
from alexnet_tf.data.record import Record
from alexnet_tf.data.splits import Dataset
from alexnet_tf.errors import UserError
from alexnet_tf.network import surgery
from alexnet_tf.network.model import stable_rate
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.settings import Settings
from alexnet_tf.training import (
    checkpoints,
    devices,
    ending,
    evaluation,
    non_finite,
    own_callbacks,
    own_models,
    recipe,
    run_settings,
    saving,
    stopping,
    xla,
)
from alexnet_tf.training.best import Best, load_best
from alexnet_tf.training.clock import Clock
from alexnet_tf.training.metrics import Log, NoLog, RunningMeans, Stall
from alexnet_tf.training.objective import Objective, check_crop
from alexnet_tf.training.optimizer import (
    LARS,
    SGD2012,
    SPANNING,
    Plateau,
    check_clips,
)
from alexnet_tf.training.plan import Plan, check_fills, is_choosing
from alexnet_tf.training.rates import Rates
from alexnet_tf.training.state import TrainingState


def train(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    optimizer: SGD2012,
    dataset: Dataset,
    pixels: Preprocessing,
    plan: Plan,
    model_dir: str | os.PathLike,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: Callable = console.progress,
    note: Callable[[str], None] = console.note,
    objective: Objective | None = None,
    crop: Callable | None = None,
    settings: Settings | None = None,
    seen_before: Record | None = None,
    dry_run: bool = False,
) -> dict:
    """Trains to the end of `plan` from the newest checkpoint in `model_dir`; returns the figures of
    the last evaluation.

    What it writes there, settings too, is what `alexnet train` writes: evaluate, export and
    finetune take it. `objective` is what is made smaller, `crop` is that of
    pipeline.training_batches. `settings` are made of the other arguments by default. `seen_before`
    is the record of the pictures that the model was trained on before. A `dry_run` refuses what
    would be refused, tells how it would begin, or that nothing is left to do, and returns {} before
    the first step; it writes nothing.

    `model` and `optimizer`, an SGD2012, are made in strategy.scope(), as tf.distribute wants it.
    `callbacks` are those of Keras: logs are loss and top_1 after a step; val_loss, val_top_1 and
    val_top_5 too after an epoch; loss, top_1 and top_5 after an evaluation. They may set
    model.stop_training or, with the schedule "constant", the rate, and none of them may change the
    weights as an evaluation begins. The rates of `optimizer` are in the end what they were, and it
    begins at rest where there is no checkpoint. `progress(total, description, initial)` returns a
    tqdm bar, `note(line)` tells the user something. SIGTERM and SIGINT end the step, write a
    checkpoint and exit with 143 and 130; a second one leaves at once. Raises NotFinite, with the
    step and the layer, if the loss is no longer finite; UserError for a model that does not put out
    one logit a class, that has weights in half precision, or two of the same path; for an
    `objective` and a `crop` that cannot be computed; and if `model_dir` holds another model, or is
    being trained.
    """
    own_models.check(model, len(dataset.class_names))
    own_models.check_assigned(model)
    objective = objective or Objective()
    if crop and plan.data_service:
        raise UserError(
            "crop= is a function of this process, but data_service= prepares pictures in others; "
            "omit one of them."
        )
    check_fills(plan.batch_size, dataset)
    check_clips(optimizer, strategy.num_replicas_in_sync)
    rows = plan.batch_size // strategy.num_replicas_in_sync
    objective.check(rows, pixels, dataset.class_names)
    objective.try_out(rows, pixels, dataset.class_names)
    if crop:
        check_crop(crop, pixels)
    settings = settings or run_settings.settings_of(
        model, dataset, pixels, plan, **objective.describe()
    )
    how = recipe.recipe(model, optimizer, plan, objective, crop)
    settings = dataclasses.replace(settings, others=settings.others | {"recipe": how})
    with run_settings.held(
        strategy, model_dir, settings, dataset, seen_before, note, dry_run
    ) as write:
        if not devices.is_chief(strategy):
            progress, note = functools.partial(console.progress, hidden=True), console.silence
        run = _Run(strategy, model, optimizer, dataset, pixels, plan, model_dir, note, objective)
        run.check_alike(settings)
        why = ending.why_over(run.state, plan, run.last_step, bool(callbacks))
        if why is not None:
            run.tell_that_it_is_over(why, run_settings.without_effect(model_dir, settings))
            return {} if dry_run else run.figures()
        pipeline.check_services(dataset.to_train(), plan.seed, plan.data_service)
        run.tell_how_it_begins()
        if dry_run:
            return {}
        with optimizer.lent(), own_callbacks.compiled(model, optimizer, callbacks):
            return _train(run, plan, callbacks, crop, progress, write)


def _train(
    run: "_Run",
    plan: Plan,
    callbacks: Sequence[keras.callbacks.Callback],
    crop: Callable | None,
    progress: Callable,
    write: Callable[[], None],
) -> dict:
    """Trains what is left, once it has called `write`."""
    run.go_on()
    run.prepare(callbacks)
    run.begin_callbacks()
    write()
    run.begin_log()
    batches = run.batches(crop)
    with (
        run.stop_signal() as stop,
        run.saver,
        progress(run.last_step * plan.batch_size, "train", run.first_step * plan.batch_size) as bar,
    ):
        if run.state.to_evaluate:
            run.finish_epoch(stop)
        while not run.is_over and not run.is_stopped:
            run.begin_step()
            with run.clock.waiting, run.watched():
                batch = next(batches)
            run.train_on(batch)
            bar.update(plan.batch_size)
            signalled, due = stop.agree(run.clock.unsaved_s > plan.checkpoint_seconds)
            if run.is_end_of_epoch or run.state.step % Log.STEPS == 0:
                bar.set_postfix_str(run.log_steps())
            if run.is_end_of_epoch:
                run.finish_epoch(stop)
            elif signalled or due or run.is_stopped:
                run.keep_best()
                run.save()
            if signalled:
                run.leave(signalled)
        run.tell_why_it_ended()
        run.end()
    return run.figures()


class _Run:
    """A training between its newest checkpoint and its end. Its methods are the stages of the loop.

    All workers go through the same stages at the same steps; the chief writes.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        optimizer: SGD2012,
        dataset: Dataset,
        pixels: Preprocessing,
        plan: Plan,
        model_dir: str | os.PathLike,
        note: Callable[[str], None],
        objective: Objective,
    ) -> None:
        """Loads the newest checkpoint. Raises UserError if it is another optimizer's."""
        self._strategy, self._model, self._optimizer = strategy, model, optimizer
        self._dataset, self._pixels, self._plan = dataset, pixels, plan
        self._model_dir, self._note, self._objective = model_dir, note, objective
        self.saver = saving.Saver(model_dir, note)
        self._steps_per_epoch, self.last_step = (
            plan.steps_per_epoch(dataset),
            plan.last_step(dataset),
        )
        with devices.waiting(strategy), strategy.scope():  # the chief's values go to all
            optimizer.build(model.trainable_variables)
        stored = checkpoints.restore(model_dir, model, optimizer, note)
        if stored is None:
            optimizer.rest()  # it may have trained these weights before
        rule = type(optimizer).__name__.lower()
        self.state = stored or TrainingState(optimizer=rule)
        if self.state.optimizer != rule:
            raise UserError(
                f"optimizer={rule}, but {model_dir} was trained by {self.state.optimizer}, whose "
                f"velocities it keeps; pass optimizer={self.state.optimizer}, or another "
                "model_dir."
            )
        self._changed = ending.is_of_others(self.state, dataset)
        self._counts_anew = False
        if self._changed:  # others have the numbers, and the figures are of others
            self._forget_judgements()
        self.state.data = dataset.fingerprint
        epochs = self.state.step // self._steps_per_epoch  # were the pictures always these
        # Epochs that are over, and the last of the run: of others they may have been more or fewer.
        self._epoch = epochs if self.state.epochs is None else self.state.epochs
        self._last_epoch = self._epoch + plan.epochs - epochs
        self.state.temperature = 1.0  # what is trained on has to be calibrated again
        self.first_step = self.state.step
        self._judged: str | None = None  # the digest of the weights that the figures are of
        # built for the first, used for all
        self._evaluation: evaluation.Evaluation | None = None
        self._best = Best(plan.patience, self.state.best)
        # Where others than the last weights are the network's, what a longer run goes on from.
        self._last_weights: dict | None = None

    def _forget_judgements(self) -> None:
        """Forgets the evaluations of other pictures: their errors cannot be compared with errors on
        the present ones.
        """
        state, plan = self.state, self._plan
        choosing = is_choosing(plan.schedule, plan.patience)
        self._counts_anew = choosing and state.best is not None
        state.bad_pictures, state.figures, state.best = [], None, None
        if state.plateau:
            state.plateau = Plateau().state() | {"drops": state.plateau["drops"]}

    def check_alike(self, settings: Settings) -> None:
        """Raises UserError on all workers if one would train differently from the others."""
        told = settings.to_json()
        how = dict(told["recipe"])
        for name, digest in how.pop("code", {}).items():
            how[name] = f"{how[name]} {digest}"
        names = ("variant", "dropout_rate", "class_names", "preprocessing")
        devices.check_agreement(
            self._strategy,
            step=self.first_step,
            data=self._dataset.fingerprint,
            **{name: told[name] for name in names},
            architecture=[one[1:] for one in surgery.layers_of(settings.architecture or {})],
            trainable=[tuple(weight.shape) for weight in self._model.trainable_variables],
            **dataclasses.asdict(self._plan) | how,
        )

    def tell_that_it_is_over(self, why: str, without_effect: Sequence[str]) -> None:
        """`why` is what why_over says, `without_effect` are names of parameters that would have
        trained another network.
        """
        others = why
        # where a run was stopped, `why` tells what makes it go on
        names = [name for name in without_effect if not why or name != "patience"]
        if names:
            others = f"; a change of {' and '.join(names)} since then has"
            others += " no effect now: pass another model_dir= to train with it"
        if self._changed:
            others += (
                "; the figures are of the current pictures, but it was trained on the earlier "
                "ones: pass more epochs=, or another model_dir= to start over"
            )
        self._note(
            ending.trained_already(self._model_dir, self.first_step, self.last_step) + others
        )

    def tell_how_it_begins(self) -> None:
        """Tells where it goes on, how another length of the run changes the schedule, and a rate
        that is never reached.
        """
        step, state, plan = self.state.step, self.state, self._plan
        if line := plan.never_reached(self.last_step):
            self._note(line)
        if not self.first_step:
            return
        line = f"{self._model_dir}: continuing from step {step} of {self.last_step}"
        weights_of = (state.figures or {}).get("step", step)
        if weights_of != step and not checkpoints.has_last(self._model_dir, step):
            line += (
                f" with the weights of step {weights_of}, which were the best: no others are kept"
            )
        self._note(line)
        if self._counts_anew:
            self._note(
                "the pictures have changed: patience= and the schedule plateau, which go by their "
                "evaluation, start counting again"
            )
        if self._is_best_gone:
            self._note(
                f"patience={plan.patience} counts from here: the best weights so far were those"
                f" after step {self._best.step}, which are not kept; the best from here on will be"
            )
        elif self._best.is_over:
            self._note(
                f"patience={plan.patience} counts from here: for {self._best.epochs_since} epochs"
                f" there has been no lower error than {self._best.error:.4g}"
            )
        changes = plan.schedule in SPANNING and state.last_step not in (None, self.last_step)
        if changes and step < self.last_step and state.learning_rate is not None:
            self._note(
                f"the {plan.schedule} schedule now ends after step {self.last_step}, not "
                f"{state.last_step}: the learning rate continues at "
                f"{plan.rate(step, self.last_step, 0):.3g}, after {state.learning_rate:.3g}"
            )

    @property
    def _is_best_gone(self) -> bool:
        """Whether the weights of the best evaluation so far are not kept: without patience those of
        the newest two checkpoints are.
        """
        best = self._best
        has_best = best.patience > 0 and best.step > 0
        return has_best and not checkpoints.has_step(self._model_dir, best.step)

    def go_on(self) -> None:
        """Takes the last weights where those of the network are others, which were the best, and
        lets a patience begin that has not stopped this training, but is over, or knows of a best
        evaluation whose weights are gone: the best may then be those that are here.
        """
        state = self.state
        if checkpoints.has_last(self._model_dir, state.step):
            checkpoints.restore(
                self._model_dir, self._model, report=self._note, step=state.step, last=True
            )
            state.figures = None
        if self._is_best_gone:
            self._best = Best(self._plan.patience)
            if state.figures:
                self._best.after_epoch(state.step, state.figures)
        elif self._best.is_over:
            self._best.count_anew()

    def prepare(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Makes what a run needs that is not over yet."""
        plan, state = self._plan, self.state
        self._train_step = xla.make_step(
            self._strategy,
            self._model,
            self._optimizer,
            self._pixels,
            plan,
            state.xla,
            self._note,
            self._objective,
            self._dataset.class_names,
        )
        self._means = RunningMeans(plan.batch_size, state.sums)
        self._rates = Rates(plan, self.last_step, self._model, self._optimizer, state)
        self._is_plain = self._objective.is_plain
        classes, highest = self._dataset.class_names, math.inf
        # a user's own has none that is known; and the rates of LARS are shares of a layer's length
        if getattr(self._model, "variant", None) and not isinstance(self._optimizer, LARS):
            highest = stable_rate(self._model.variant, len(classes), self._model.dropout_rate)
        self._stall = Stall(classes, plan, self.last_step, highest)
        self._bad_pictures = BadPictures(
            self._dataset,
            plan.max_bad_pictures,
            state.bad_pictures,
            self._note,
            functools.partial(devices.union_over_workers, self._strategy),
        )
        self._callbacks = own_callbacks.Callbacks(
            callbacks,
            self._model,
            self._optimizer,
            plan,
            epochs=self._last_epoch,
            steps=self._steps_per_epoch,
        )
        if state.scheduled:
            self._optimizer.learning_rate.assign(state.learning_rate)  # a callback may have set it
        else:  # before on_train_begin, whose rate would be overwritten
            self._rates.set(state)
        self.clock = Clock(self.first_step)

    def begin_callbacks(self) -> None:
        """Raises UserError where one of them leaves nothing to train."""
        if line := self._callbacks.begin(self._model_dir, self.first_step):
            self._note(line)
        if self.is_stopped and not self.first_step:
            raise UserError(
                "callbacks= has one that sets stop_training before the first step, so nothing "
                "would be trained; omit it, or let it do so later."
            )

    def begin_log(self) -> None:
        self._log = (
            Log(self._model_dir, self.first_step, self.state.to_evaluate)
            if devices.is_chief(self._strategy)
            else NoLog()
        )

    def batches(self, crop: Callable | None) -> Iterator[Any]:
        """Those of the steps that are left, distributed."""
        split, plan, self._crop = self._dataset.to_train(), self._plan, crop
        make_batches = functools.partial(
            pipeline.training_batches,
            split,
            self._pixels,
            plan.batch_size,
            plan.seed,
            services=plan.data_service,
            crop=crop,
        )
        guarded = bool(self.state.bad_pictures)
        return pipeline.resilient_training(
            self._strategy,
            split,
            make_batches,
            self.first_step,
            guarded,
            plan.data_service,
            crop is not None,
        )

    def watched(self) -> AbstractContextManager:
        """For what waits for other workers, such as for the last picture of all."""
        return devices.waiting(self._strategy)

    def stop_signal(self) -> stopping.StopSignal:
        return stopping.StopSignal(self._strategy)

    @property
    def is_stopped(self) -> bool:
        """By a callback."""
        return self._model.stop_training

    @property
    def is_over(self) -> bool:
        return (
            self.state.step >= self.last_step and not self.state.to_evaluate or self._best.is_over
        )

    @property
    def is_end_of_epoch(self) -> bool:
        return self.state.step % self._steps_per_epoch == 0

    def begin_step(self) -> None:
        """Sets the rates of the next step.

        Raises UserError if the checkpoint that was being written meanwhile could not be, or a
        callback has set what a step does not look at again.
        """
        self.saver.check()
        step, state = self.state.step, self.state
        step_of_epoch = step % self._steps_per_epoch
        if state.scheduled:
            self._callbacks.check_rate(state.scheduled[0])
        self._rates.set(state)
        if step_of_epoch == 0 or step == self.first_step:
            rate = float(self._optimizer.learning_rate.numpy())
            self._callbacks.begin_epoch(self._epoch)
            # They set it when this epoch began: one that halves it would halve it once more.
            if step_of_epoch and rate == state.learning_rate:
                self._optimizer.learning_rate.assign(rate)
        self._callbacks.begin_step(step_of_epoch)

    def train_on(self, batch: Any) -> None:
        """Makes the step. Nothing is read from the device, unless a callback wants it."""
        sums = self._train_step(batch, self.state.step, self._rates.colour_noise(self.state.step))
        self._means.add(sums)
        self._bad_pictures.add(self._strategy.experimental_local_results(batch["bad"]))
        if self._callbacks:
            with self.watched():
                means = [float(value) / self._plan.batch_size for value in sums]
            self._callbacks.end_step(self.state.step % self._steps_per_epoch, means)
        self.state.step += 1
        self.state.figures = None  # those that there were are of other weights

    def _read_steps(self) -> None:
        """Waits for the steps so far.

        Raises UserError where a loss is not finite, or too many pictures are bad.
        """
        with self.watched():  # a GPU may not have made the steps yet
            steps_ago = self._means.fold()
        non_finite.stop_if_not_finite(
            steps_ago,
            self.state.step,
            self._model,
            self._pixels,
            self._dataset,
            self._plan,
            self._crop,
        )
        self._bad_pictures.check()

    def log_steps(self) -> str:
        """Logs the steps since it was last called; returns the end of the progress line."""
        self._read_steps()
        (loss, top_1), rate = (
            self._means.take_recent(),
            float(self._optimizer.learning_rate.numpy()),
        )
        seconds, waited, steps_done = self.clock.lap(self.state.step)
        epoch = self._epoch + 1
        self._log.write(
            {
                "step": self.state.step,
                "epoch": epoch,
                "train_loss": loss,
                "train_top_1": top_1,
                "learning_rate": rate,
                "images_per_s": steps_done * self._plan.batch_size / seconds,
                "input_wait": waited / seconds,
                "bad_pictures": len(self._bad_pictures),
            }
        )
        return (
            f"epoch {epoch}/{self._last_epoch}, loss {loss:.3f}, top-1 {top_1:.3f}, rate"
            f" {rate:.2g}, input wait {waited / seconds:.0%}{self._bad_pictures.in_line()}"
        )

    def finish_epoch(self, stop: stopping.StopSignal) -> None:
        """Saves, evaluates, and tells whoever wants to know. A signal leaves before the evaluation
        is over: it comes first when the training goes on. A run that ends here is saved again, with
        what was measured.
        """
        state, plan = self.state, self._plan
        if state.step > self.first_step:
            pictures = (state.step - self.first_step) * plan.batch_size
            state.train_images_per_s = pictures / self.clock.training_s
        if not state.to_evaluate:
            state.to_evaluate = True
            self._epoch += 1
            self.save()

        def leave_if_asked(pictures: int) -> None:
            self.saver.check()
            signalled, _ = stop.agree()
            if signalled:
                self.leave(signalled)

        with self.clock.paused:
            self._judged = self._callbacks.begin_evaluation()
            evaluated = self._evaluate(leave_if_asked)
            state.to_evaluate = False
            measured = {name: evaluated[name] for name in ("loss", "top_1", "top_5")}
            self._callbacks.end_evaluation(measured)
            self._take_evaluation(evaluated, measured)
        if self.is_over or self.is_stopped:
            self._judge_what_was_changed()
            self.save()

    def _judge_what_was_changed(self) -> None:
        """Figures that are kept are of the weights beside them, which a callback may have changed
        since they were judged.
        """
        if self._callbacks.digest() != self._judged:
            with self.clock.paused:
                evaluated = self._evaluate()
            self.state.figures = self._told(evaluated)
            self._best.judged_again(self.state.step, evaluated)

    def _take_evaluation(self, evaluated: dict, measured: dict) -> None:
        """`measured` is what others are told of what was `evaluated`."""
        state = self.state
        train_loss, train_top_1 = self._means.take_epoch()
        loss = train_loss if self._is_plain else evaluated["loss"]
        learns = self._is_known_to_learn(evaluated, train_top_1)
        self._best.after_epoch(state.step, evaluated)
        told = loss, evaluated, state.step, self._best.is_over
        if not learns and (advice := self._stall.check(*told)):
            self._note(advice)
        # what has not begun to fall has not stopped
        if learns or not self._stall.is_guessing(loss):
            self._rates.plateau.after_epoch(1 - evaluated["top_1"])
        self._log.write(
            {
                "step": state.step,
                "epoch": self._epoch,
                "train_loss": train_loss,
                "train_top_1": train_top_1,
                "learning_rate": float(self._optimizer.learning_rate.numpy()),
                **measured,
            }
        )
        self._note(
            f"epoch {self._epoch}: train loss {train_loss:.3f}, top-1 {train_top_1:.3f};"
            f" evaluation loss {evaluated['loss']:.3f}, top-1 {evaluated['top_1']:.3f}"
        )
        state.figures = self._told(evaluated)
        # before others than the weights of this epoch are those of the network: they may store them
        self._callbacks.end_epoch(self._epoch - 1, (train_loss, train_top_1), measured)
        self.keep_best()

    def _is_known_to_learn(self, evaluated: dict, train_top_1: float) -> bool:
        """Whether a training by another loss than the plain one has more of its pictures right than
        one answer to all of them would have by chance. It is not told by the loss of the
        evaluation, which rises above that of guessing where pictures are learnt by heart.
        """
        if self._is_plain or "only_answer" in evaluated:
            return False
        counts = self._dataset.class_counts
        share = max(counts) / sum(counts) if counts else 1 / len(self._dataset.class_names)
        pictures = self._steps_per_epoch * self._plan.batch_size
        chance = 3 * math.sqrt(share * (1 - share) / pictures)
        return train_top_1 > share + min(chance, (1 - share) / 2)

    def keep_best(self) -> None:
        """Gives the network the weights of the best evaluation where patience asks for them, the
        run ends here, by whatever it does, and they are others than the last.
        """
        best, state = self._best, self.state
        ends = best.is_over or self.is_stopped or state.step >= self.last_step
        if not (self._plan.patience and ends and 0 < best.step < state.step):
            return
        devices.together(self._strategy, self.saver.wait)  # the best may be being written
        last = checkpoints.weights_of(self._model)
        if found := load_best(self._model_dir, self._model, best, self._note):
            self._last_weights, self._judged = last, self._callbacks.digest()
            found = evaluation.without_only_answer(state.figures or {}) | found
            state.figures = self._told(found) | {"step": best.step}

    def save(self) -> None:
        """Has a checkpoint written, from which a run goes on to the bits that this one would have.

        The loop waits until its content is copied.
        """
        with self.clock.paused:
            self._read_steps()
            state = self.state
            state.plateau, state.sums, state.best = (
                self._rates.plateau.state(),
                self._means.epoch_sums(),
                self._best.state(),
            )
            state.learning_rate, state.xla = (
                float(self._optimizer.learning_rate.numpy()),
                self._train_step.xla,
            )
            state.bad_pictures, state.last_step = self._bad_pictures.numbers(), self.last_step
            state.epochs = self._epoch
            state.stopped = None
            if self._best.is_over:
                state.stopped = ending.BY_PATIENCE
            elif self.is_stopped:
                state.stopped = ending.BY_CALLBACK
            if devices.is_chief(self._strategy):
                self.saver.save(
                    self._model,
                    self._optimizer,
                    dataclasses.replace(state),  # as it is now
                    keep=self._best.step if self._plan.patience else None,
                    last=self._last_weights,
                )
        self.clock.has_saved()

    def leave(self, signalled: int) -> NoReturn:
        self.saver.wait()
        self._note(
            f"stopped by {signal.Signals(signalled).name} after step {self.state.step}; run it"
            " again to continue from there"
        )
        sys.exit(128 + signalled)

    def tell_why_it_ended(self) -> None:
        if self._best.is_over:
            self._note(
                f"stopped after step {self.state.step}: {self._plan.patience} epochs without a"
                f" lower error than {self._best.error:.4g}"
            )
        elif self.is_stopped:
            self._note(f"stopped by a callback after step {self.state.step}")

    def end(self) -> None:
        """Tells the callbacks. What they leave is what was trained: EarlyStopping gives the model
        its best weights back here, which the checkpoint and the figures have to be of.
        """
        if not self._callbacks:
            return
        before = self._callbacks.digest()
        last = self._last_weights or checkpoints.weights_of(self._model)
        self._callbacks.end()
        if self._callbacks.digest() != before:
            self._last_weights = last
            with self.clock.paused:
                self.state.figures = self._told(self._evaluate())
            self.save()

    def figures(self) -> dict:
        """Of the evaluation of the weights; there is one now where there was none."""
        return self.state.figures or self._told(self._evaluate())

    def _told(self, evaluated: dict) -> dict:
        return evaluated | {
            "evaluated_on": self._dataset.evaluation.name,
            "step": self.state.step,
            "train_images_per_s": self.state.train_images_per_s,
        }

    def _evaluate(self, on_batch: Callable[[int], None] | None = None) -> dict:
        if self._evaluation is None:  # checks the weights as well
            self._evaluation = evaluation.of_model(
                self._strategy,
                self._model,
                self._pixels,
                self._dataset.evaluation,
                self._plan.batch_size,
            )
        else:
            evaluation.check_finite(self._model)
        return self._evaluation.answers(on_batch)[0].figures()
