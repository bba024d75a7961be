"""The range test on live Keras models, and that it leaves no trace: run by test_finder_keras.py in
a process of its own, since PyTorch and TensorFlow in one have crashed each other."""

import os
import random
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402
import test_how_to  # noqa: E402
import test_moving_over  # noqa: E402

import lrrt  # noqa: E402
from lrrt.errors import InputError  # noqa: E402
from lrrt.finder import keras_reuse, keras_tensorflow  # noqa: E402
from lrrt.finder.keras import _accuracies  # noqa: E402
from lrrt.finder.keras_callback import RangeTestCallback  # noqa: E402

FEATURES, CLASSES, SAMPLES, BATCH = 6, 3, 96, 16
layers = keras.layers
tf.config.threading.set_intra_op_parallelism_threads(1)


def arrays(samples=SAMPLES):
    x = np.random.default_rng(1).normal(size=(samples, FEATURES))
    return x, (x[:, :CLASSES] + 0.1 * x[:, CLASSES:]).argmax(1)


def dataset(**options):
    return tf.data.Dataset.from_tensor_slices(arrays()).shuffle(SAMPLES, **options).batch(BATCH)


def network(inputs=True, dtype=None):
    return keras.Sequential(
        [keras.Input((FEATURES,))] * inputs
        + [
            layers.GaussianNoise(0.1),
            layers.Dense(12, kernel_regularizer=keras.regularizers.L2(1e-3), dtype=dtype),
            layers.BatchNormalization(dtype=dtype),
            layers.ReLU(dtype=dtype),
            layers.Dropout(0.3, dtype=dtype),
            layers.Dense(CLASSES),
        ]
    )


def nested_and_frozen():
    model = keras.Sequential([keras.Input((FEATURES,)), network(), layers.BatchNormalization()])
    model.layers[-1].trainable = False
    return model


def small():
    return keras.Sequential([keras.Input((FEATURES,)), layers.Dense(CLASSES)])


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(optimizer=None, model=None, **options):
    model = model or network()
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), loss(), **options)
    return model


def values(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(v).copy() for v in variables]


def same(a, b):
    return len(a) == len(b) and all(map(np.array_equal, a, b))


CASES = {
    "sgd, arrays, amid": dict(amid=True),
    "schedule, tf.data": dict(
        optimizer=lambda: keras.optimizers.Adam(
            keras.optimizers.schedules.ExponentialDecay(0.01, 5, 0.9)
        ),
        data=dataset,
        options={"validation": arrays(), "batch_size": BATCH, "validate_every": 7},
    ),
    "unbuilt, metrics, mixed precision": dict(
        network=lambda: network(inputs=False, dtype="mixed_float16"),
        optimizer=lambda: keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.01, 0.9), initial_scale=64, dynamic_growth_steps=3
        ),
        compile={"metrics": ["accuracy"], "run_eagerly": True},
        data=lambda: dataset(seed=3),
    ),
    "Ftrl, weighted metrics, nested, frozen batch norm, amid": dict(
        optimizer=lambda: keras.optimizers.Ftrl(0.1),
        network=nested_and_frozen,
        compile={"weighted_metrics": ["accuracy"]},
        amid=True,
    ),
    "accumulation, several steps at once, amid": dict(
        optimizer=lambda: keras.optimizers.SGD(0.1, 0.9, gradient_accumulation_steps=3),
        compile={"steps_per_execution": 2},
        network=small,
        amid=True,
    ),
}


def trained(case, test):
    """All values after a training, and the curve of the range test before or amid it, if any."""
    keras.utils.set_random_seed(0)
    model = compiled(
        case.get("optimizer", lambda: None)(),
        case.get("network", network)(),
        **case.get("compile", {}),
    )
    data, options, curve = case.get("data", lambda: None)(), case.get("options", {}), None
    given = {"data": arrays(), "batch_size": BATCH} if data is None else {"data": data}

    def fit():
        if data is None:
            return model.fit(*arrays(), BATCH, verbose=0).history
        return model.fit(data, verbose=0).history

    history = [fit()] if case.get("amid") else []
    if test:
        before = values(model) if model.optimizer.built else None
        function, steps = model.train_function, model.steps_per_execution
        curve = lrrt.range_test(model, steps=12, **{**given, **options})
        assert before is None or same(before, values(model))
        assert model.train_function is function and model.steps_per_execution == steps
    history += [fit()]
    noise = [
        random.random(),
        np.random.rand(),
        float(tf.random.uniform(())),
        float(keras.random.uniform(())),
    ]
    return values(model), history, noise, curve


@pytest.mark.parametrize("case", CASES)
def test_training_afterwards_is_the_one_without_it(case):
    without, afterwards = trained(CASES[case], False), trained(CASES[case], True)
    assert len(afterwards[3]) > 5 and np.isfinite(afterwards[3].loss[:5]).all()
    assert without[1] == afterwards[1]
    assert same(without[0], afterwards[0])
    assert without[2] == afterwards[2]


def test_curve_is_the_plain_loop_with_the_penalty_apart():
    keras.utils.set_random_seed(0)
    (x, y), l2 = arrays(), 0.01
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(CLASSES, kernel_regularizer=keras.regularizers.L2(l2)),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), loss(), metrics=["accuracy"], run_eagerly=True)
    batches = [(x[i::3].astype("float32"), y[i::3]) for i in range(3)]
    curve = lrrt.range_test(
        model, data=batches, start=1e-3, end=1.0, steps=10, validation=batches, validate_every=10
    )
    kernel, bias = (tf.Variable(w) for w in model.get_weights())
    for i, lr in enumerate(np.geomspace(1e-3, 1.0, 10)):
        inputs, targets = batches[i % 3]
        with tf.GradientTape() as tape:
            logits = inputs @ kernel + bias
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
            data, penalty = tf.reduce_mean(losses), l2 * tf.reduce_sum(kernel**2)
            total = data + penalty
        assert curve.loss[i] == pytest.approx(float(data), rel=1e-5)
        assert curve.penalty[i] == pytest.approx(float(penalty), rel=1e-5)
        assert curve.lr[i] == lr
        for variable, gradient in zip(
            (kernel, bias), tape.gradient(total, (kernel, bias)), strict=True
        ):
            variable.assign_sub(lr * gradient)
    logits = x @ kernel.numpy() + bias.numpy()
    expected = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits).numpy().mean()
    assert curve.val_loss[-1] == pytest.approx(expected, rel=1e-4)
    assert curve.val_accuracy[-1] == pytest.approx((logits.argmax(1) == y).mean())
    assert np.isnan(curve.val_loss[:-1]).all() and np.isnan(curve.grad_norm).all()


def test_momentum_along_a_ramp_is_smaller_than_pytorchs():
    """docs/moving_over.md: Keras's velocity holds rates, PyTorch's gradients; here both of 1."""
    weight, optimizer = keras.Variable([0.0]), keras.optimizers.SGD(0.1, momentum=0.9)
    torchs, velocity = 0.0, 0.0
    ramp = np.geomspace(1e-7, 10, 100)
    for rate in ramp:
        before = weight.numpy()[0]
        optimizer.learning_rate = rate
        optimizer.apply([tf.ones(1)], [weight])
        velocity = 0.9 * velocity + 1
        torchs = rate * velocity
    moved = float(before - weight.numpy()[0])
    assert moved / rate == pytest.approx(3.96, abs=0.01)
    assert torchs / rate == pytest.approx(10, abs=0.01)


def test_which_accuracy_was_taken_is_noted():
    inputs = keras.Input((FEATURES,))
    model = keras.Model(inputs, [layers.Dense(CLASSES, name=name)(inputs) for name in "pq"])
    options = {"data": (x, (y, y)), "batch_size": BATCH, "steps": 10, "validation": (x, (y, y))}
    for metrics, notes in (
        (
            [["accuracy"], ["accuracy"]],
            ("The accuracy is p_accuracy, the first of: p_accuracy, q_",),
        ),
        ([["accuracy"], []], ()),
    ):
        model.compile("sgd", [loss(), loss()], metrics=metrics, run_eagerly=True)
        curve = lrrt.range_test(model, **options)
        assert np.isfinite(curve.val_accuracy).all() and len(curve.notes) == len(notes)
        assert all(map(str.startswith, curve.notes, notes))


def test_a_loss_or_an_error_is_no_accuracy():
    inputs = keras.Input((FEATURES,))
    model = keras.Model(
        inputs, {name: layers.Dense(1, name=name)(inputs) for name in ("accel", "v")}
    )
    model.compile("sgd", "mse", metrics={"accel": ["mae"]}, run_eagerly=True)
    data = x, {"accel": x[:, :1], "v": x[:, 1:2]}
    curve = lrrt.range_test(model, data=data, batch_size=BATCH, steps=10, validation=data)
    assert np.isfinite(curve.val_loss).all() and curve.val_accuracy is None


@pytest.mark.parametrize(
    ("logs", "found"),
    [
        ("loss accuracy", "accuracy"),
        ("loss my_acc acc", "acc my_acc"),
        ("acc_loss loss", ""),
        (
            "sparse_top_k_categorical_accuracy binary_accuracy",
            "binary_accuracy sparse_top_k_categorical_accuracy",
        ),
        ("p_accuracy q_accuracy_1 accelerate_mae inaccuracy", "p_accuracy q_accuracy_1"),
    ],
)
def test_accuracies_are_told_by_their_names(logs, found):
    assert _accuracies(logs.split()) == found.split()


@pytest.mark.parametrize("inputs", [True, False])
def test_states_of_recurrent_layers_are_put_back(inputs):
    steps = x.astype("float32").reshape(SAMPLES, 2, 3)

    def trained(test):
        keras.utils.set_random_seed(0)
        rnn = layers.Bidirectional(layers.SimpleRNN(2, stateful=True))
        first = [keras.Input(batch_shape=(BATCH, 2, 3))] * inputs
        model = keras.Sequential([*first, rnn, layers.Dense(CLASSES)])
        compiled(model=model, run_eagerly=True)
        before = [model.train_on_batch(steps[:BATCH], y[:BATCH])] if inputs else []
        if test:
            data = [(steps[:BATCH], y[:BATCH])] * 2
            lrrt.range_test(model, data=data, steps=10, validation=data, validate_every=10)
        return before + [model.train_on_batch(steps[:BATCH], y[:BATCH]) for _ in range(2)]

    assert trained(False) == trained(True)


def test_metrics_of_a_loop_by_hand_are_those_without_it():
    def trained(test):
        keras.utils.set_random_seed(0)
        metrics = [keras.metrics.SparseCategoricalAccuracy()]  # a state of its own before it trains
        model = compiled(model=small(), metrics=metrics, run_eagerly=True)
        if test:
            lrrt.range_test(model, data=(x, y), batch_size=BATCH, steps=10)
        return [model.train_on_batch(x[:BATCH], y[:BATCH]) for _ in range(2)]

    assert trained(False) == trained(True)


@pytest.mark.parametrize("error", [ValueError("of the data"), KeyboardInterrupt()])
def test_put_back_after_an_error(error):
    model = compiled(run_eagerly=True)
    model.optimizer.build(model.trainable_variables)
    before, state = values(model), random.getstate()

    def broken():
        random.random()
        for i in range(5):
            yield arrays()[0][i : i + 8], arrays()[1][i : i + 8]
        raise error

    with pytest.raises(type(error)):
        lrrt.range_test(model, data=broken())
    assert same(before, values(model)) and random.getstate() == state


def test_custom_training_steps_and_data_by_index():
    class Custom(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer, self.tracker = layers.Dense(CLASSES), keras.metrics.Mean(name="loss")

        def call(self, x):
            return self.layer(x)

        def train_step(self, data):
            x, y = data  # two, as from fit
            with tf.GradientTape() as tape:
                value = loss()(y, self(x))
            gradients = tape.gradient(value, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            self.tracker.update_state(value)
            return {"loss": self.tracker.result()}

    class Indexed(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            x, y = arrays()
            return x[index::4], y[index::4]

    model = Custom()
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    curve = lrrt.range_test(model, data=Indexed(), steps=20)
    # Batch losses, no running mean: at no LR to speak of, the four batches' own, again and again.
    assert curve.loss[:4] == pytest.approx(curve.loss[4:8], rel=1e-4)
    assert len(set(curve.loss[:4].round(6))) == 4

    class Endless(Indexed):
        num_batches = None  # as Keras has it

        def __getitem__(self, index):
            return super().__getitem__(index % 4)

    assert np.array_equal(lrrt.range_test(model, data=Endless(), steps=20).loss, curve.loss)
    with pytest.raises(
        InputError, match="validation: expected .*num_batches.*got 'an endless source'"
    ):
        lrrt.range_test(model, data=Indexed(), validation=Endless())


class Noisy(layers.Layer):
    """Noise whose seed is there from the start, or from when it is built on."""

    def __init__(self, early):
        super().__init__()
        self.noise = keras.random.SeedGenerator(3) if early else None

    def build(self, shape):
        self.noise = self.noise or keras.random.SeedGenerator(3)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.noise)


class Augmenting(keras.utils.PyDataset):
    def __init__(self):
        super().__init__()
        self.random, self.count = np.random.default_rng(0), 0

    def __len__(self):
        return 4

    def __getitem__(self, index):
        (x, y), self.count = arrays(), self.count + 1
        return x[index::4] + self.random.normal() + 0.1 * self.count, y[index::4]


@pytest.mark.parametrize("early", [True, False])
def test_seeds_and_data_that_draw_for_themselves_are_put_back(early):
    def trained(test):
        keras.utils.set_random_seed(0)
        model, data = keras.Sequential([Noisy(early), layers.Dense(CLASSES)]), Augmenting()
        model = compiled(keras.optimizers.Adam(), model)
        with warnings.catch_warnings(action="error", category=UserWarning):
            curve = lrrt.range_test(model, data=data, steps=10, end=0.1) if test else None
        history = model.fit(data, shuffle=False, verbose=0).history
        return values(model), history, random.random(), data.count, curve

    with_test, without = trained(True), trained(False)
    assert same(with_test[0], without[0]) and with_test[1:-1] == without[1:-1]
    assert with_test[-1].notes == ()


class Counting(keras.Sequential):
    """It counts its steps, in attributes of several kinds."""

    def __init__(self, *args):
        super().__init__(*args)
        self.steps, self.by_name, self.total = 0, {"seen": []}, np.zeros(1)
        self.random = np.random.default_rng(0)

    def train_step(self, data):
        self.steps += 1
        self.by_name["seen"].append(1)
        self.by_name["new"] = self.random.random()
        self.total += 1
        return super().train_step(data)


def test_attributes_of_a_model_of_ones_own_are_put_back():
    model = compiled(model=Counting(small().layers), run_eagerly=True)
    model.train_on_batch(*(array[:BATCH] for array in arrays()))
    before = model.random.bit_generator.state
    with warnings.catch_warnings(action="error", category=UserWarning):
        assert lrrt.range_test(model, data=arrays(), batch_size=BATCH, steps=10).notes == ()
    assert (model.steps, model.total[0], list(model.by_name["seen"])) == (1, 1, [1])
    assert model.random.bit_generator.state == before


@pytest.mark.parametrize("source", [dataset(), arrays()])
@pytest.mark.parametrize("verify", [None, True])
def test_what_was_not_put_back_is_named(source, verify):
    class Hiding(Counting):
        def train_step(self, data):
            self.helper.steps += 1
            return super().train_step(data)

    model = compiled(model=Hiding(small().layers), run_eagerly=True)
    model.helper = type("Helper", (), {"steps": 0})()
    model.helper.steps = 0
    options = {"batch_size": BATCH} if isinstance(source, tuple) else {}
    with pytest.warns(UserWarning, match="Not put back by the test: .*helper.steps."):
        curve = lrrt.range_test(model, data=source, steps=10, verify=verify, **options)
    assert len(curve.notes) == 1 and "batch" not in curve.notes[0]


@pytest.mark.parametrize("kind", ["train", "test"])
def test_a_step_that_returns_no_loss_is_named(kind):
    class Lossless(keras.Sequential):
        pass

    setattr(Lossless, f"{kind}_step", lambda self, data: {"mae": tf.constant(1.0)})
    model = compiled(model=Lossless(small().layers), run_eagerly=True)
    with pytest.raises(InputError, match=f"one whose {kind}_step returns a 'loss'.*'mae'"):
        lrrt.range_test(model, data=(x, y), batch_size=BATCH, validation=(x, y))


def test_augmenting_layers_are_put_back_by_keep():
    noise = layers.GaussianNoise(0.5, seed=1)
    data = dataset(seed=1).map(lambda x, y: (noise(x, training=True), y))
    before = noise.seed_generator.state.numpy().copy()
    model = compiled(run_eagerly=True)
    lrrt.range_test(model, data=data, steps=10, keep=[noise, noise.seed_generator])
    assert np.array_equal(before, noise.seed_generator.state.numpy())
    with pytest.raises(InputError, match="keep"):
        lrrt.range_test(model, data=data, keep=3)


def test_callback_tests_within_fit_which_goes_on_as_without_it():
    def fitted(**options):
        keras.utils.set_random_seed(0)
        model = compiled(metrics=["accuracy"], model=small(), run_eagerly=True)
        callbacks = [RangeTestCallback(arrays(), BATCH, steps=15, **options)] if options else []
        history = model.fit(*arrays(), BATCH, epochs=2, verbose=0, callbacks=callbacks).history
        return model, history, callbacks

    plain, history, _ = fitted()
    tested, again, (callback,) = fitted(epochs=(0, 1))
    assert history == again and same(values(plain), values(tested))
    assert set(callback.curves) == set(callback.suggestions) == {0, 1}
    assert not np.array_equal(callback.curves[0].loss, callback.curves[1].loss)
    moved, _, (callback,) = fitted(epochs=(1,), set_lr=True, rule="fastai_minimum")
    assert float(moved.optimizer.learning_rate) == pytest.approx(callback.suggestions[1].lr)
    options = {"rule": "fastai_minimum", "start": 10, "end": 1000}
    flat, _, (callback,) = fitted(epochs=(1,), set_lr=True, **options)
    assert callback.curves[1].flaw and callback.suggestions[1].lr is not None
    assert float(flat.optimizer.learning_rate) == pytest.approx(0.1)


@pytest.mark.parametrize("data", [None, lambda: dataset(seed=3)])
def test_a_look_at_the_data_to_build_the_model_moves_no_shuffling_on(data):
    keras.utils.set_random_seed(0)
    given = {"data": arrays(), "batch_size": BATCH} if data is None else {"data": data()}
    first = [
        lrrt.range_test(compiled(model=network(inputs)), steps=10, **given).about["first_batch"]
        for inputs in (True, False)
    ]
    assert first[0] == first[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rule": "valley"}, "rule: expected .*got 'valley'"),
        ({"stepz": 20}, "option: expected .*got 'stepz'.*steps"),
        ({"epochs": 1}, "epochs: expected .*got 1"),
        ({"epochs": ()}, "epochs"),
        ({"steps": 2}, "steps: expected .*got 2"),
    ],
)
def test_a_callbacks_arguments_are_checked_when_it_is_made(options, words):
    with pytest.raises(InputError, match=words):
        RangeTestCallback(arrays(), BATCH, **options)


def test_a_callback_is_checked_before_the_training():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    for options, words in (
        ({"epochs": (5,)}, "epochs: expected .*below 2.*got .5"),
        ({"set_lr": True}, "set_lr"),
    ):
        model = compiled(keras.optimizers.SGD(schedule), small())
        before = values(model)
        with pytest.raises(InputError, match=words):
            callback = RangeTestCallback(arrays(), BATCH, **{"epochs": (1,)} | options)
            model.fit(*arrays(), BATCH, epochs=2, verbose=0, callbacks=[callback])
        assert same(before[:2], values(model)[:2])


def frozen():
    model = compiled()
    model.trainable = False
    return model


def of_another():
    model = network()
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(network().trainable_variables)
    return compiled(optimizer, model)


def parameterless():
    return compiled(model=keras.Sequential([keras.Input((FEATURES,)), layers.ReLU()]))


x, y = arrays()
BAD = {
    "uncompiled": (network, {}, "model: expected .*compile.*got 'Sequential'"),
    "no parameters": (parameterless, {}, "model.*with parameters"),
    "frozen": (frozen, {}, "model.*frozen"),
    "another's optimizer": (of_another, {}, "optimizer: expected .*got 'SGD'; .*built for others"),
    "a loss": (compiled, {"loss": loss()}, "loss.*brings its own"),
    "an optimizer": (compiled, {"optimizer": keras.optimizers.SGD()}, "optimizer.*brings its own"),
    "no data": (compiled, {"data": None}, "data: expected .*got None"),
    "no batch size": (compiled, {"batch_size": None}, "batch_size: expected .*got None"),
    "too large batches": (compiled, {"batch_size": 97}, "batch_size: expected .*got 97"),
    "batch size of batches": (compiled, {"data": [(x, y)] * 2}, "batch_size: expected .*got 16"),
    "empty": (compiled, {"data": [], "batch_size": None}, "data: expected .*got 'no batch'"),
    "short generator": (
        compiled,
        {"data": iter([(x, y)] * 7), "batch_size": None},
        "data: expected .*got '7 batches, to be read once'",
    ),
    "other shape midway": (
        compiled,
        {"data": [(x, y), (x[:, :4], y)], "batch_size": None},
        r"data: expected .*got \[\(4,\), \(\)\]",
    ),
    "accumulation": (
        compiled,
        {"accumulate": 2},
        "accumulate: expected .*gradient_accumulation_steps.*got 2",
    ),
    "PyTorch's options": (compiled, {"clip_norm": 1.0}, "clip_norm.*PyTorch"),
    "PyTorch's ratios": (compiled, {"keep_ratios": False}, "keep_ratios.*PyTorch"),
    "validation": (
        compiled,
        {"validation": []},
        "batch_size|validation: expected .*got 'no batch'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error_and_leaves_no_trace(case):
    make, options, words = BAD[case]
    model = make()
    model.run_eagerly = True
    before = [w.copy() for w in model.get_weights()]
    with pytest.raises(InputError, match=words):
        lrrt.range_test(model, **{"data": (x, y), "batch_size": BATCH} | options)
    assert same(before, model.get_weights())


def test_nan_from_the_first_step_is_a_curve_that_abstains():
    model = compiled(run_eagerly=True)
    before = [w.copy() for w in model.get_weights()]
    curve = lrrt.range_test(model, data=(x * np.nan, y), batch_size=BATCH)
    assert len(curve) == 1 and np.isnan(curve.loss[0])
    assert curve.suggest().lr is None and "nan at step 0" in curve.suggest().reason
    assert same(before, model.get_weights())


def test_moving_over_from_other_finders():
    import matplotlib

    matplotlib.use("agg")

    def batches():
        while True:
            yield x[:BATCH].astype("float32"), y[:BATCH]

    names = {
        "np": np,
        "lrrt": lrrt,
        "x": x,
        "y": y,
        "generator": batches(),
    }
    for code in test_moving_over.rows("Keras: keras_lr_finder and callbacks"):
        names["model"] = compiled(model=small())  # a trained one may have no rate to suggest
        exec(compile(code, "moving_over.md", "exec"), names)
    assert len(names["curve"]) > 50


def test_the_how_to():
    model = compiled(model=small())
    names = test_how_to.run("Keras", {"model": model, "x": x.astype("float32"), "y": y})
    (callback,) = names["callbacks"]
    assert len(callback.curves[0]) == 100


def test_audit_of_a_keras_model():
    def make_model():
        return compiled(model=small(), run_eagerly=True)

    tf.random.set_seed(5)
    noise = float(tf.random.uniform(()))
    tf.random.set_seed(5)
    state = random.getstate()
    found = lrrt.audit(
        make_model, lambda: (x, y), runs=2, steps=10, batch_size=BATCH, train_steps=10
    )
    again = lrrt.audit(
        make_model, lambda: (x, y), runs=2, steps=10, batch_size=BATCH, train_steps=10
    )
    assert found.to_dict() == again.to_dict() and random.getstate() == state
    assert float(tf.random.uniform(())) == noise
    assert found.curves[0].loss[0] != found.curves[1].loss[0]
    assert len(found.trials) == 6 * (found.lr is not None)
    assert found.about["framework"].endswith("on tensorflow")


# ---- models that train by themselves -------------------------------------------------------------


class Own(keras.Model):
    """It keeps the optimiser that it is compiled with, and steps that; it has no call, as Keras's
    own example of a variational autoencoder."""

    def __init__(self, *parts):
        super().__init__()
        self.network = network(dtype=None) if not parts else parts[0]

    def compile(self, optimizer, **options):
        super().compile(**options)
        self.opt, self.criterion = optimizer, loss()

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            value = self.criterion(y, self.network(x, training=True))
        gradients = tape.gradient(value, self.network.trainable_weights)
        self.opt.apply_gradients(zip(gradients, self.network.trainable_weights, strict=True))
        return {"loss": value}


def plain():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((FEATURES,)), layers.Dense(CLASSES)])


def test_the_optimiser_that_a_model_keeps_for_itself_is_steered_and_put_back():
    x, y = (tf.constant(a[:BATCH]) for a in arrays())
    x = tf.cast(x, "float32")
    model = Own(plain())
    model.compile(keras.optimizers.Adam(0.01))
    before = [w.numpy() for w in model.weights]
    options = {"start": 1e-4, "end": 1.0, "steps": 20, "stop": None}
    curve = lrrt.range_test(model, data=[(x, y)], **options)
    assert model.opt.iterations.numpy() == 0 and float(model.opt.learning_rate) == np.float32(0.01)
    assert all(map(np.array_equal, before, [w.numpy() for w in model.weights]))
    twin, adam, losses = plain(), keras.optimizers.Adam(0.01), []
    for rate in curve.lr:
        adam.learning_rate.assign(rate)
        with tf.GradientTape() as tape:
            value = loss()(y, twin(x, training=True))
        adam.apply_gradients(
            zip(tape.gradient(value, twin.trainable_weights), twin.trainable_weights, strict=True)
        )
        losses.append(float(value))
    assert np.allclose(curve.loss, losses, rtol=1e-5)
    plainly, tested = Own(plain()), model
    plainly.compile(keras.optimizers.Adam(0.01))
    histories = [m.fit(x, y, batch_size=BATCH, epochs=3, verbose=0) for m in (plainly, tested)]
    assert histories[0].history == histories[1].history


class Stuck(Own):
    def train_step(self, data):
        return {"loss": self.criterion(data[1], self.network(data[0]))}


class Late(keras.Model):
    """A layer that its training step alone uses."""

    def __init__(self):
        super().__init__()
        self.body, self.head = plain(), layers.Dense(CLASSES, name="head")

    def call(self, x):
        return self.body(x)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            value = loss()(y, self.head(self.body(x)))
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(value, weights), weights, strict=True))
        return {"loss": value}


def test_training_steps_that_cannot_be_tested_are_refused_and_fit_goes_on():
    x, y = arrays()
    data = {"data": (x, y), "batch_size": BATCH, "steps": 12}
    stuck = Stuck(plain())
    stuck.compile(keras.optimizers.SGD(0.1))
    with pytest.raises(InputError, match="model: .*'Stuck'; of RMSprop, SGD none took one"):
        lrrt.range_test(stuck, **data)
    late = Late()
    late.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    with pytest.raises(InputError, match="model: .*train_step alone|model: .*head"):
        lrrt.range_test(late, **data)
    assert not late.optimizer.built
    late.fit(x, y, batch_size=BATCH, verbose=0)
    assert len(lrrt.range_test(late, **data)) > 5


def test_the_second_test_of_a_model_traces_nothing():
    keras.utils.set_random_seed(0)
    model = compiled(metrics=["accuracy"])
    curves = [
        lrrt.range_test(model, data=arrays(), batch_size=BATCH, steps=12, stop=None)
        for _ in range(2)
    ]
    function = vars(model)["_range_test_function"]
    assert function.step.experimental_get_tracing_count() == 1
    assert np.array_equal(curves[0].loss, curves[1].loss)
    model.layers[-2].rate = 0.0  # dropout: what was traced is no longer the model
    lrrt.range_test(model, data=arrays(), batch_size=BATCH, steps=12, stop=None)
    assert vars(model)["_range_test_function"] is not function


class Scaled(layers.Layer):
    def __init__(self):
        super().__init__()
        self.factor = np.float32(np.random.uniform(1, 2))

    def call(self, inputs):
        return inputs * self.factor


def adapted():
    normalised = layers.Normalization()
    normalised.adapt(np.random.normal(size=(50, FEATURES)))
    return normalised


def weighted(y, logits):
    return keras.ops.mean(loss()(y, logits))


ALIKE = {
    "alike": (compiled, 1),
    "alike, functional": (lambda: compiled(model=functional(), metrics=["accuracy"]), 1),
    "another rate": (lambda: compiled(keras.optimizers.SGD(np.random.uniform())), 3),
    "a layer of the user's own": (lambda: with_first(Scaled()), 3),
    "a layer with constants": (lambda: with_first(adapted()), 3),
    "a loss of the user's own": (lambda: own_loss(), 3),
}


def functional():
    inputs = keras.Input((FEATURES,))
    hidden = layers.Dense(8, activation="tanh")(inputs)
    return keras.Model(inputs, layers.Dense(CLASSES)(layers.Dropout(0.2)(hidden)))


def with_first(layer):
    return compiled(model=keras.Sequential([keras.Input((FEATURES,)), layer, *small().layers]))


def own_loss():
    model = small()
    model.compile("adam", weighted)
    return model


@pytest.mark.parametrize("case", ALIKE)
def test_an_audit_traces_models_alike_once_with_the_same_bits(case, monkeypatch):
    make_model, wanted = ALIKE[case]
    traces, init = [], keras_tensorflow.TrainFunction.__init__

    def counted(self, *arguments):
        traces.append(self)
        init(self, *arguments)

    monkeypatch.setattr(keras_tensorflow.TrainFunction, "__init__", counted)
    data = {"data": arrays(), "batch_size": BATCH, "validation": arrays()}
    options = {"runs": 3, "steps": 12, "stop": None, "validate_every": 6, "workers": 1}
    found = lrrt.audit(make_model, lambda: data, **options)
    assert len(traces) == wanted and not keras_reuse._traced
    monkeypatch.setattr(keras_reuse, "stand_in", lambda model: model)
    again = lrrt.audit(make_model, lambda: data, **options)
    assert len(traces) == wanted + 3
    assert [c.to_dict() for c in again.curves] == [c.to_dict() for c in found.curves]
