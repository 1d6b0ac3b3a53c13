"""The training loop: schedule, evaluation after each epoch, checkpoints, signals. Every worker of a job runs it alike.

From Python, with callbacks of Keras:

    train(strategy, model, optimizer, dataset, pixels, Plan(epochs=10), "models/mine",
          callbacks=[keras.callbacks.EarlyStopping("val_loss", patience=3)])
"""

import collections
import dataclasses
import functools
import signal
import sys
import threading
import time

import keras
import tensorflow as tf

from alexnet_tf import console
from alexnet_tf.data import pipeline
from alexnet_tf.data.bad_pictures import BadPictures
from alexnet_tf.data.splits import Dataset
from alexnet_tf.errors import UserError
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.settings import Settings
from alexnet_tf.training import checkpoints, devices, evaluation, record, steps
from alexnet_tf.training.metrics import Best, Log, NoLog, RunningMeans, Stall
from alexnet_tf.training.objective import Objective
from alexnet_tf.training.optimizer import SGD2012, Plateau, colour_noise_factor, conv1_factor, learning_rate_factor


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to train: what the flags of the same names say."""

    batch_size: int = 128
    epochs: int = 90
    learning_rate: float = 0.01
    warmup_steps: int = 0
    schedule: str = "plateau"
    seed: int = 0
    xla: str = "auto"
    checkpoint_seconds: float = 600
    patience: int = 0  # epochs without a lower evaluation error after which to stop, with the best weights; 0: never, the last
    colour_noise: float = 0.0  # standard deviation along each principal component, as a share of that component's
    max_bad_pictures: int = 10
    data_service: tuple = ()  # addresses of alexnet_tf.data_service; none: pictures are prepared in this process
    init: str = ""  # "variant": the variant has initial weights that begin to learn sooner, init=source2012, and these are not they

    def steps_per_epoch(self, dataset):
        return dataset.train.examples // self.batch_size

    def last_step(self, dataset):
        return self.steps_per_epoch(dataset) * self.epochs

    def rate(self, step, last_step, drops):
        warmth = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return self.learning_rate * warmth * learning_rate_factor(self.schedule, step / last_step, drops)


def train(strategy: tf.distribute.Strategy, model: keras.Model, optimizer: SGD2012, dataset: Dataset, pixels: Preprocessing,
          plan: Plan, model_dir, callbacks=(), progress=console.progress, note=console.note, objective: Objective | None = None,
          crop=None, settings: Settings | None = None) -> dict:
    """Trains to the end of `plan` from the newest checkpoint in `model_dir`; returns the figures of the last evaluation.

    What it writes there, settings too, is what `alexnet train` writes: evaluate, export and finetune take it. `objective` is
    what is made smaller, `crop` is that of pipeline.training_batches. `settings` are made of the other arguments by default.

    `model` and `optimizer`, an SGD2012, are made in strategy.scope(), as tf.distribute wants it.
    `callbacks` are those of Keras: logs are loss and top_1 after a step; val_loss, val_top_1 and val_top_5 too after an epoch;
    they may set model.stop_training or, with the schedule "constant", the rate. `progress(total, description, initial)` returns
    a tqdm bar, `note(line)` tells the user something. SIGTERM and SIGINT end the step, write a checkpoint and exit with 143 and
    130; a second one leaves at once. Raises UserError, with the step and the layer, if the loss is no longer finite; for a
    model that does not put out one logit a class, or two of whose weights have the same path; and if `model_dir` holds another
    model, or is being trained.
    """
    _check_model(model, len(dataset.class_names))
    objective = objective or Objective()
    settings = settings or record.settings_of(model, dataset, pixels, plan, **objective.describe())
    if crop and plan.data_service:
        raise UserError("crop= is a function of this process, and data_service= prepares pictures in others; leave one out.")
    if not plan.last_step(dataset):
        raise UserError(f"{dataset.train.examples} training pictures do not fill a batch of {plan.batch_size}; use a smaller one.")
    with record.written(strategy, model_dir, settings, lambda state: is_over(state, plan, plan.last_step(dataset))):
        return _train(strategy, model, optimizer, dataset, pixels, plan, model_dir, callbacks, progress, note, objective, crop)


def _train(strategy, model, optimizer, dataset, pixels, plan, model_dir, callbacks, progress, note, objective, crop):
    chief = devices.is_chief(strategy)
    if not chief:
        progress, note = functools.partial(console.progress, hidden=True), console.silence
    steps_per_epoch, last_step = plan.steps_per_epoch(dataset), plan.last_step(dataset)
    with strategy.scope():
        optimizer.build(model.trainable_variables)
    state = checkpoints.restore(model_dir, model, optimizer, note) or {
        "step": 0, "plateau": Plateau().state(), "sums": [0.0, 0.0, 0], "figures": None, "xla": None, "scheduled": None,
        "best": None}
    first_step, figures, best = state["step"], state["figures"], Best(plan.patience, state.get("best"))
    devices.check_agreement(strategy, first_step=first_step, plan=plan, data=dataset.fingerprint)
    if is_over(state, plan, last_step):
        note(f"{model_dir} is trained already: step {first_step}, asked for {last_step}")
        return figures or evaluation.evaluate_split(strategy, model, pixels, dataset.evaluation, plan.batch_size)
    if first_step:
        note(f"{model_dir}: going on from step {first_step} of {last_step}")
    train_step = _make_step(strategy, model, optimizer, pixels, plan, state["xla"], note, objective, dataset.class_names)
    plateau = Plateau()
    plateau.restore(state["plateau"])
    means, stall = RunningMeans(plan.batch_size, state["sums"]), Stall(dataset.class_names, plan)
    bad_pictures = BadPictures(dataset, plan.max_bad_pictures, state.get("bad_pictures", []), note,
                               functools.partial(devices.union_over_workers, strategy))
    log = Log(model_dir, first_step) if chief else NoLog()
    callbacks = _callback_list(callbacks, model, optimizer)
    begin = saved = time.monotonic()
    waited = 0.0  # for pictures
    logged = begin, waited, first_step
    batches = pipeline.resilient_batches(strategy, dataset.train, functools.partial(
        pipeline.training_batches, dataset.train, pixels, plan.batch_size, plan.seed, services=plan.data_service, crop=crop),
        first_step, guarded=bool(bad_pictures.numbers()))
    scheduled = state["scheduled"]
    if scheduled:
        optimizer.learning_rate.assign(state["learning_rate"])  # a callback may have set it
    callbacks.on_train_begin()
    with _StopSignal(strategy) as stop, progress(last_step * plan.batch_size, "train", first_step * plan.batch_size) as bar:
        for step in range(first_step, last_step):
            epoch, step_of_epoch = divmod(step, steps_per_epoch)
            rates = [plan.rate(step, last_step, plateau.drops), conv1_factor(plan.schedule, step / last_step)]
            optimizer.conv1_factor.assign(rates[1])
            if rates != scheduled:  # else a callback's rate would be overwritten at once
                optimizer.learning_rate.assign(rates[0])
                scheduled = rates
            if step_of_epoch == 0 or step == first_step:
                callbacks.on_epoch_begin(epoch)
            callbacks.on_train_batch_begin(step_of_epoch)
            wait_begin = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - wait_begin
            sums = train_step(batch, step, plan.colour_noise * colour_noise_factor(plan.schedule, step / last_step))
            means.add(sums)
            bad_pictures.add(strategy.experimental_local_results(batch["bad"]))
            if callbacks.callbacks:
                callbacks.on_train_batch_end(step_of_epoch, _logs(float(value) / plan.batch_size for value in sums))
            bar.update(plan.batch_size)

            done, now = step + 1, time.monotonic()
            end_of_epoch = done % steps_per_epoch == 0
            signalled, due = stop.agree(done, now - saved > plan.checkpoint_seconds)
            time_to_save = end_of_epoch or signalled or model.stop_training or due
            time_to_log = done % Log.STEPS == 0 or end_of_epoch
            if time_to_save or time_to_log:
                _stop_if_not_finite(means.fold(), done, model, pixels, dataset, plan)
                bad_pictures.check()
                now = time.monotonic()  # reading the sums has waited for the device
            if time_to_log:
                (loss, top_1), rate = means.take_recent(), float(optimizer.learning_rate.numpy())
                seconds, wait = now - logged[0], waited - logged[1]
                row = {"step": done, "epoch": epoch + 1, "train_loss": loss, "train_top_1": top_1, "learning_rate": rate,
                       "images_per_s": (done - logged[2]) * plan.batch_size / seconds, "input_wait": wait / seconds,
                       "bad_pictures": len(bad_pictures)}
                log.write(row)
                bar.set_postfix_str(f"epoch {epoch + 1}/{plan.epochs}, loss {loss:.3f}, top-1 {top_1:.3f}, rate {rate:.2g}, "
                                    f"input wait {row['input_wait']:.0%}{bad_pictures.in_line()}")
            if end_of_epoch:
                train_loss, train_top_1 = means.take_epoch()
                evaluated = evaluation.evaluate_split(strategy, model, pixels, dataset.evaluation, plan.batch_size)
                if advice := stall.check(train_loss if objective.is_plain else evaluated["loss"], evaluated, done, last=done == last_step):
                    note(advice)
                plateau.after_epoch(1 - evaluated["top_1"])
                best.after_epoch(done, evaluated)
                log.write({"step": done, "epoch": epoch + 1, "train_loss": train_loss, "train_top_1": train_top_1,
                           "learning_rate": float(optimizer.learning_rate.numpy()),
                           **{name: evaluated[name] for name in ("loss", "top_1", "top_5")}})
                note(f"epoch {epoch + 1}: train loss {train_loss:.3f}, top-1 {train_top_1:.3f}; evaluation loss "
                     f"{evaluated['loss']:.3f}, top-1 {evaluated['top_1']:.3f}")
                figures = evaluated | {"step": done, "train_images_per_s": (done - first_step) * plan.batch_size / (now - begin)}
                begin += time.monotonic() - now  # evaluation is not training
                if plan.patience and best.step < done and (best.is_over or done == last_step):
                    figures |= _load_best(model_dir, model, best, note)
                callbacks.on_epoch_end(epoch, _logs((train_loss, train_top_1)) | {
                    f"val_{name}": evaluated[name] for name in ("loss", "top_1", "top_5")})
            if time_to_log:
                logged = time.monotonic(), waited, done
            if time_to_save:
                if chief:
                    checkpoints.save(model_dir, model, optimizer, {
                        "step": done, "plateau": plateau.state(), "sums": means.epoch_sums(), "figures": figures,
                        "xla": train_step.xla, "scheduled": scheduled, "learning_rate": float(optimizer.learning_rate.numpy()),
                        "best": best.state(), "bad_pictures": bad_pictures.numbers()}, keep=best.step if plan.patience else None)
                saved = time.monotonic()
            if signalled:
                note(f"stopped by {signal.Signals(signalled).name} after step {done}; start again to go on from there")
                sys.exit(128 + signalled)
            if best.is_over:
                note(f"stopped after step {done}: {plan.patience} epochs without a lower error than that of step {best.step}")
                break
            if model.stop_training:
                note(f"stopped by a callback after step {done}")
                break
    callbacks.on_train_end()
    return figures or evaluation.evaluate_split(strategy, model, pixels, dataset.evaluation, plan.batch_size)


def _check_model(model, classes):
    """Raises UserError for a model whose answers or weights would be taken for what they are not."""
    last = model.layers[-1]
    if isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) in (
            keras.activations.softmax, keras.activations.sigmoid):
        raise UserError(f"The model's last layer, {last.name}, puts out probabilities; the loss wants logits: leave out its "
                        "activation.")
    if model.output_shape != (None, classes):
        raise UserError(f"The model puts out {model.output_shape}, but there are {classes} classes; it needs one number for each.")
    path, count = collections.Counter(checkpoints.paths(model)).most_common(1)[0]
    if count > 1:
        raise UserError(f"{count} weights of the model are called {path}, and a checkpoint would keep one of them; give its layers "
                        "names of their own.")


def _load_best(model_dir, model, best, note):
    """Gives `model` the weights of the best evaluation, unless they cannot be read; returns the figures of those it has."""
    try:
        checkpoints.restore(model_dir, model, step=best.step)
    except UserError as error:
        note(f"{error} The last weights are kept, not the best.")
        return {}
    note(f"the best weights are those after step {best.step}, which are kept")
    return best.figures | {"step": best.step}


def _logs(means):
    return dict(zip(("loss", "top_1"), means))


def _callback_list(callbacks, model, optimizer):
    if callbacks:
        model.compile(optimizer)  # callbacks look for model.optimizer
    model.stop_training = False
    return keras.callbacks.CallbackList(list(callbacks), model=model)


def _make_step(strategy, model, optimizer, pixels, plan, picked, note, objective=None, class_names=()):
    """The TrainStep that `plan` asks for. `picked` is what xla=auto picked when this training began: it stays so, because
    the two ways round differently and a resumed run is to be the whole run.
    """
    def make_step(xla):
        return steps.TrainStep(strategy, model, optimizer, pixels, plan.batch_size, xla, plan.seed, objective, class_names)

    if plan.xla != "auto" or picked is not None:
        return make_step(picked if plan.xla == "auto" else plan.xla == "on")

    def black(context):
        shape = [context.get_per_replica_batch_size(plan.batch_size), pixels.image_size, pixels.image_size, pixels.channels]
        batch = {"image": tf.zeros(shape, tf.uint8), "label": tf.zeros(shape[:1], tf.int64)}
        return tf.data.Dataset.from_tensors(batch).repeat()

    optimizer.learning_rate.assign(0.0)
    state = [variable.numpy() for variable in model.non_trainable_variables]  # no rate keeps moving statistics where they are
    train_step, line = steps.pick_xla(strategy, make_step, next(pipeline.distribute(strategy, black)))
    for variable, value in zip(model.non_trainable_variables, state):
        variable.assign(value)
    note(line)
    return train_step


def is_over(state, plan, last_step):
    """Whether a training has nothing left to do after a checkpoint with this state; None: there is no checkpoint."""
    return state is not None and (state["step"] >= last_step or Best(plan.patience, state.get("best")).is_over)


def _stop_if_not_finite(steps_ago, done, model, pixels, dataset, plan):
    """Raises UserError with the step and the layer if the loss was not finite `steps_ago` steps before the last one."""
    if steps_ago is None:
        return
    step = done - 1 - steps_ago
    # That step changed no weight, so the same batch shows where it began, unless later ones changed much.
    batch = next(iter(pipeline.training_batches(dataset.train, pixels, plan.batch_size, plan.seed, step)))
    layer = steps.first_non_finite_layer(model, pixels, batch["image"])
    where = f" from layer {layer} on" if layer else ""
    raise UserError(f"The loss is not finite at step {step + 1}{where}; {checkpoints.IF_NOT_FINITE}")


class _StopSignal:
    """Remembers SIGTERM or SIGINT until the step is done; a second one stops at once. In a `with`, on the main thread."""

    _CHECK_EVERY = 8  # steps, where workers have to agree

    def __init__(self, strategy):
        self._strategy, self._here, self._before = strategy, 0, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._remember) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number, frame):
        del frame
        self._here = number
        for either in self._before:
            signal.signal(either, signal.SIG_DFL)

    def agree(self, step, due):
        """(the signal that any worker got, or 0; whether the chief's checkpoint is due), the same on all workers."""
        if devices.worker_count(self._strategy) == 1:
            return self._here, due
        if step % self._CHECK_EVERY:
            return 0, False
        asked = devices.over_workers(self._strategy, 100 * due + self._here)
        return max(int(value) % 100 for value in asked), asked[0] >= 100
