"""The range test on a compiled model of any backend of Keras: ``KERAS_BACKEND=jax python`` this.
Run by test_finder_keras.py."""

import keras
import numpy as np

import lrrt

FEATURES, CLASSES = 6, 3
x = np.random.default_rng(1).normal(size=(96, FEATURES)).astype("float32")
y = x[:, :CLASSES].argmax(1)


def compiled():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(12, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(CLASSES),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


plain = compiled()
histories = [plain.fit(x, y, batch_size=16, epochs=2, verbose=0).history]
tested = compiled()
before = [keras.ops.convert_to_numpy(v) for v in tested.variables]
options = {"start": 1e-4, "end": 1.0, "steps": 30, "validation": (x, y), "validate_every": 10}
curve = lrrt.range_test(tested, data=(x, y), batch_size=16, **options)
after = [keras.ops.convert_to_numpy(v) for v in tested.variables]
assert all(map(np.array_equal, before, after))
assert tested.optimizer.iterations == 0 and np.isclose(float(tested.optimizer.learning_rate), 0.01)
assert curve.loss.min() < 0.8 * curve.loss[0] and np.isfinite(curve.val_accuracy[9])
again = lrrt.range_test(tested, data=(x, y), batch_size=16, **options)
assert np.array_equal(curve.loss, again.loss)
histories.append(tested.fit(x, y, batch_size=16, epochs=2, verbose=0).history)
assert histories[0] == histories[1], histories
