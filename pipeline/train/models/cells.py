"""Recurrent layers, each from (inputs, hidden): the simple one step by step, and torch's own."""

import math
from collections.abc import Callable

import torch
from torch import nn

MEMORY = 4.0  # bias of gates that are 0.98 open at first


class SteppedRnn(nn.Module):
    """The simple recurrent network, h(t) = tanh(x(t) W + h(t-1) U + b), h(0) = 0, step by step.

    Weights W (inputs, hidden), U (hidden, hidden), b (hidden,) are drawn as ``nn.RNN`` draws them,
    uniform in ±1/√hidden. ``nn.RNN`` with weights Wᵀ, Uᵀ and biases b, 0 computes the same.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(hidden)
        self.W = nn.Parameter(torch.empty(inputs, hidden).uniform_(-bound, bound))
        self.U = nn.Parameter(torch.empty(hidden, hidden).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.empty(hidden).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, T, inputs) → every h(t), (B, T, hidden), and the last one, (1, B, hidden)"""
        h = x.new_zeros(len(x), len(self.b))
        steps = []
        for t in range(x.shape[1]):
            h = torch.tanh(x[:, t] @ self.W + h @ self.U + self.b)
            steps.append(h)
        return torch.stack(steps, 1), h.unsqueeze(0)


def identity_rnn(inputs: int, hidden: int) -> nn.RNN:
    """``nn.RNN`` with ReLU that begins by keeping its state (Le, Jaitly & Hinton, 2015)."""
    made = nn.RNN(inputs, hidden, nonlinearity="relu", batch_first=True)
    weights = dict(made.named_parameters())
    with torch.no_grad():
        nn.init.eye_(weights["weight_hh_l0"])
        nn.init.zeros_(weights["bias_ih_l0"])
        nn.init.zeros_(weights["bias_hh_l0"])
    return made


def keeping(gated: nn.LSTM | nn.GRU) -> nn.LSTM | nn.GRU:
    """The same layer, the gates that keep its state almost open: forget gates, update gates.

    Torch has both in the second place of its weights.
    """
    with torch.no_grad():
        bias = dict(gated.named_parameters())["bias_ih_l0"]
        bias[gated.hidden_size : 2 * gated.hidden_size] = MEMORY
    return gated


CELLS: dict[str, Callable[[int, int], nn.Module]] = {
    "srn": SteppedRnn,
    "rnn": identity_rnn,
    "lstm": lambda inputs, hidden: keeping(nn.LSTM(inputs, hidden, batch_first=True)),
    "gru": lambda inputs, hidden: keeping(nn.GRU(inputs, hidden, batch_first=True)),
}
