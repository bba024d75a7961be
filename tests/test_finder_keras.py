"""The range test on live Keras models, and that it leaves no trace; in a process of its own, since
PyTorch and TensorFlow in one have crashed each other."""

import os
import random

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402

import lrrt  # noqa: E402
from lrrt.errors import InputError  # noqa: E402
from lrrt.finder.keras import RangeTestCallback  # noqa: E402

FEATURES, CLASSES, SAMPLES, BATCH = 6, 3, 96, 16
layers = keras.layers


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


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(optimizer=None, model=None, **options):
    model = model or network()
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), loss(), **options)
    return model


def values(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(v) for v in variables]


def same(a, b):
    return len(a) == len(b) and all(map(np.array_equal, a, b))


CASES = {
    "sgd, arrays": dict(),
    "schedule, tf.data": dict(
        optimizer=lambda: keras.optimizers.Adam(
            keras.optimizers.schedules.ExponentialDecay(0.01, 5, 0.9)
        ),
        data=dataset, options={"validation": arrays(), "batch_size": BATCH, "validate_every": 7},
    ),
    "unbuilt, metrics": dict(
        network=lambda: network(inputs=False), compile={"metrics": ["accuracy"]},
        data=lambda: dataset(seed=3),
    ),
    "mixed precision": dict(
        network=lambda: network(dtype="mixed_float16"),
        optimizer=lambda: keras.optimizers.LossScaleOptimizer(
            keras.optimizers.AdamW(0.01), initial_scale=64, dynamic_growth_steps=3
        ),
    ),
    "accumulation, several steps at once": dict(
        optimizer=lambda: keras.optimizers.SGD(0.1, 0.9, gradient_accumulation_steps=3),
        compile={"steps_per_execution": 2},
    ),
}  # fmt: skip


def trained(case, test, amid):
    """All values after a training, and the curve of the range test before or amid it, if any."""
    keras.utils.set_random_seed(0)
    model = compiled(
        case.get("optimizer", lambda: None)(), case.get("network", network)(),
        **case.get("compile", {}),
    )  # fmt: skip
    data, options, curve = case.get("data", lambda: None)(), case.get("options", {}), None
    given = {"data": arrays(), "batch_size": BATCH} if data is None else {"data": data}

    def fit():
        if data is None:
            return model.fit(*arrays(), BATCH, verbose=0).history
        return model.fit(data, verbose=0).history

    history = [fit()] if amid else []
    if test:
        before = values(model) if model.optimizer.built else None
        states = random.getstate(), np.random.get_state()[1].tolist()
        curve = lrrt.range_test(model, steps=20, **{**given, **options})
        assert before is None or same(before, values(model))
        if not (amid is False and "unbuilt" in str(case)):
            assert states == (random.getstate(), np.random.get_state()[1].tolist())
    history += [fit(), fit()]
    noise = [random.random(), np.random.rand(), float(tf.random.uniform(())),
             float(keras.random.uniform(()))]  # fmt: skip
    return values(model), history, noise, curve


@pytest.mark.parametrize("amid", [False, True], ids=["before", "amid"])
@pytest.mark.parametrize("case", CASES)
def test_training_afterwards_is_the_one_without_it(case, amid):
    without = trained(CASES[case], False, amid)
    again = trained(CASES[case], True, amid)
    assert len(again[3]) > 5 and np.isfinite(again[3].loss[:5]).all()
    assert without[1] == again[1]
    assert same(without[0], again[0])
    assert without[2] == again[2]
