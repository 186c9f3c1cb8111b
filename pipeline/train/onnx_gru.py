"""GRUs as ONNX's own operator: torch's exporter unrolls them, which binds a model to one length."""

import copy

import torch
from torch import nn


class OnnxGru(nn.Module):
    """A batch-first GRU for an exported graph; run here, it gives zeros of the right shape."""

    w: torch.Tensor
    r: torch.Tensor
    b: torch.Tensor

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.hidden = gru.hidden_size
        own = {name: _arranged(values.detach()) for name, values in gru.named_parameters()}
        self.register_buffer("w", own["weight_ih_l0"].unsqueeze(0))
        self.register_buffer("r", own["weight_hh_l0"].unsqueeze(0))
        self.register_buffer("b", torch.cat([own["bias_ih_l0"], own["bias_hh_l0"]]).unsqueeze(0))

    def forward(self, steps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, T, inputs) → every state, (B, T, hidden), and the last one, (1, B, hidden)"""
        x = steps.transpose(0, 1)  # ONNX has time first, and the direction second
        count, batch = x.shape[:2]
        states, last = torch.onnx.ops.symbolic_multi_out(
            "GRU",
            [x, self.w, self.r, self.b],
            {"hidden_size": self.hidden, "linear_before_reset": 1},  # 1: as torch computes it
            dtypes=(x.dtype, x.dtype),
            shapes=((count, 1, batch, self.hidden), (1, batch, self.hidden)),
        )
        return states.squeeze(1).transpose(0, 1), last


def _arranged(values: torch.Tensor) -> torch.Tensor:
    """Torch's gates are reset, update, new; ONNX's are update, reset, new."""
    reset, update, new = values.chunk(3)
    return torch.cat([update, reset, new])


def with_onnx_grus(model: nn.Module) -> nn.Module:
    """A copy of a model to export, each of its GRUs (of one layer and direction) as an operator."""
    exported = copy.deepcopy(model)
    for module in list(exported.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GRU):
                setattr(module, name, OnnxGru(child))
    return exported
