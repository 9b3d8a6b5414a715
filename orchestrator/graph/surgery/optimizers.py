"""What does each optimizer of TensorFlow 1 keep, and which operation applies it?

Rule: names, constants, initial values and the order of inputs as in ``tf.compat.v1.train``; what a
user didn't choose there has its default here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OptimizerName = Literal["sgd", "momentum", "adam", "adagrad", "rmsprop"]


@dataclass(frozen=True)
class Optimizer:
    """One optimizer.

    Attributes:
        title: its name in the graph, and of its slots.
        dense: the operation's type without ``Resource`` and ``Sparse``.
        inputs: of that operation, in order; ``indices`` come after ``grad`` in its sparse form.
        slots: input to the value that all its elements begin with.
        constants: input to its value.
        powers: inputs that are variables of the optimizer as a whole, to the constant that each is
            multiplied with after a step.
        flags: boolean attributes.
    """

    title: str
    dense: str
    inputs: tuple[str, ...]
    slots: tuple[tuple[str, float], ...] = ()
    constants: tuple[tuple[str, float], ...] = ()
    powers: tuple[tuple[str, str], ...] = ()
    flags: tuple[tuple[str, bool], ...] = (("use_locking", False),)

    @property
    def sparse_inputs(self) -> tuple[str, ...]:
        """The inputs of the operation on rows."""
        at = self.inputs.index("grad") + 1
        return (*self.inputs[:at], "indices", *self.inputs[at:])


OPTIMIZERS: dict[OptimizerName, Optimizer] = {
    "sgd": Optimizer("GradientDescent", "ApplyGradientDescent", ("var", "lr", "grad")),
    "momentum": Optimizer(
        "Momentum",
        "ApplyMomentum",
        ("var", "accum", "lr", "grad", "momentum"),
        slots=(("accum", 0.0),),
        constants=(("momentum", 0.9),),
        flags=(("use_locking", False), ("use_nesterov", False)),
    ),
    "adagrad": Optimizer(
        "Adagrad",
        "ApplyAdagrad",
        ("var", "accum", "lr", "grad"),
        slots=(("accum", 0.1),),
        flags=(("use_locking", False), ("update_slots", True)),
    ),
    "rmsprop": Optimizer(
        "RMSProp",
        "ApplyRMSProp",
        ("var", "ms", "mom", "lr", "decay", "momentum", "epsilon", "grad"),
        slots=(("ms", 1.0), ("mom", 0.0)),
        constants=(("decay", 0.9), ("momentum", 0.0), ("epsilon", 1e-10)),
    ),
    "adam": Optimizer(
        "Adam",
        "ApplyAdam",
        (
            *("var", "m", "v", "beta1_power", "beta2_power"),
            *("lr", "beta1", "beta2", "epsilon", "grad"),
        ),
        slots=(("m", 0.0), ("v", 0.0)),
        constants=(("beta1", 0.9), ("beta2", 0.999), ("epsilon", 1e-8)),
        powers=(("beta1_power", "beta1"), ("beta2_power", "beta2")),
        flags=(("use_locking", False), ("use_nesterov", False)),
    ),
}
